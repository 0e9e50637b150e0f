//! Package URLs: names of packages that scanners and other bills of materials know them by (ECMA-427).

use std::fmt::Write;

/// `pkg:KIND/NAMESPACE/NAME@VERSION?QUALIFIERS`. Qualifiers are in the order of their names; an empty one is left out, and so is
/// an empty namespace.
pub(super) fn purl(
    kind: &str,
    namespace: &str,
    (name, version): (&str, &str),
    qualifiers: &[(&str, &str)],
) -> String {
    let mut purl = format!("pkg:{kind}");
    for part in [namespace, name].into_iter().filter(|part| !part.is_empty()) {
        purl.push('/');
        encode(&mut purl, part, ":");
    }
    if !version.is_empty() {
        purl.push('@');
        encode(&mut purl, version, ":");
    }
    for (index, (key, value)) in qualifiers.iter().filter(|(_, value)| !value.is_empty()).enumerate() {
        purl.push(if index == 0 { '?' } else { '&' });
        purl.push_str(key);
        purl.push('=');
        encode(&mut purl, value, ":/");
    }
    purl
}

/// Of an image: by the last part of its name, its digest, and where it lies.
pub(super) fn of_image(reference: &str, digest: &str) -> String {
    let name = reference.split('@').next().unwrap_or(reference);
    // A colon before a slash is that of a port.
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    };
    let name = repository.rsplit('/').next().unwrap_or(repository).to_lowercase();
    purl("oci", "", (&name, digest), &[("repository_url", &repository.to_lowercase()), ("tag", tag)])
}

fn encode(purl: &mut String, text: &str, also: &str) {
    for byte in text.bytes() {
        let plain = char::from(byte);
        if plain.is_ascii_alphanumeric() || "-._~".contains(plain) || also.contains(plain) {
            purl.push(plain);
        } else {
            // Writing to a text does not fail.
            let _ = write!(purl, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_the_names_that_others_give_them() {
        assert_eq!(
            purl("deb", "debian", ("docker.io", "28.5.2+dfsg4-5"), &[("arch", "amd64"), ("distro", "forky")]),
            "pkg:deb/debian/docker.io@28.5.2%2Bdfsg4-5?arch=amd64&distro=forky"
        );
        assert_eq!(purl("deb", "debian", ("git", "1:2.47~a"), &[]), "pkg:deb/debian/git@1:2.47~a");
        assert_eq!(purl("cargo", "", ("serde", "1.0.1"), &[("arch", "")]), "pkg:cargo/serde@1.0.1");
        assert_eq!(purl("apk", "", ("a b/é", ""), &[]), "pkg:apk/a%20b%2F%C3%A9");
    }

    #[test]
    fn an_image_is_known_by_its_digest() {
        assert_eq!(
            of_image("registry:5000/Team/greeter:1", "sha256:ab"),
            "pkg:oci/greeter@sha256:ab?repository_url=registry:5000/team/greeter&tag=1"
        );
        assert_eq!(
            of_image("registry:5000/greeter", "sha256:ab"),
            "pkg:oci/greeter@sha256:ab?repository_url=registry:5000/greeter"
        );
        assert_eq!(
            of_image("greeter@sha256:ab", "sha256:ab"),
            "pkg:oci/greeter@sha256:ab?repository_url=greeter"
        );
    }
}
