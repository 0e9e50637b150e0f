//! Which Debian mirror to use: the one that this machine's apt uses.

use std::process::{Command, Stdio};

use super::{AptError, missing_apt};

/// Overrides the mirror.
const OVERRIDE: &str = "MVM_DEBIAN_MIRROR";

/// The base URL of the mirror.
pub(super) fn find() -> Result<String, AptError> {
    if let Some(mirror) = std::env::var(OVERRIDE).ok().filter(|mirror| !mirror.is_empty()) {
        return Ok(mirror);
    }
    let fields = "$(ORIGIN)|$(SIGNED_BY)|$(CODENAME)|$(REPO_URI)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", fields, "Created-By: Packages"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(missing_apt)?;
    choose(&String::from_utf8_lossy(&output.stdout)).ok_or(AptError::NoMirror)
}

/// Lines of apt's configuration that hold for our downloads too: the proxies.
pub(super) fn proxies() -> Result<String, AptError> {
    let output = Command::new("apt-config").arg("dump").stdin(Stdio::null()).output().map_err(missing_apt)?;
    Ok(only_proxies(&String::from_utf8_lossy(&output.stdout)))
}

/// The first archive that is Debian's by its Release file; a machine that never fetched one is taken at its word when
/// Debian's own keyring signs the source. Security archives hold no whole suite.
fn choose(targets: &str) -> Option<String> {
    let archives = targets.lines().filter_map(|line| {
        let mut fields = line.splitn(4, '|');
        Some((fields.next()?, fields.next()?, fields.next()?, fields.next()?))
    });
    let candidates = || archives.clone().filter(|(.., codename, _)| !codename.ends_with("-security"));
    let by_origin = candidates().find(|(origin, ..)| *origin == "Debian");
    let by_key =
        || candidates().find(|(origin, key, ..)| origin.is_empty() && key.contains("debian-archive-keyring"));
    let (.., uri) = by_origin.or_else(by_key)?;
    Some(uri.to_owned())
}

fn only_proxies(dump: &str) -> String {
    let is_proxy = |line: &&str| line.starts_with("Acquire::http") && line.contains("Proxy");
    dump.lines().filter(is_proxy).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_vendors_archive_is_never_the_mirror() {
        let targets = "Ubuntu||noble|http://ubuntu.example/\n\
            Debian||bookworm-security|http://security.example/debian-security/\n\
            Debian||bookworm|http://mirror.example/debian/\n";
        assert_eq!(choose(targets).as_deref(), Some("http://mirror.example/debian/"));
        assert_eq!(choose("Ubuntu||noble|http://ubuntu.example/\n"), None);
    }

    #[test]
    fn a_source_never_fetched_counts_by_its_keyring() {
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let targets = format!("|/k.gpg|x|http://x.example/\n|{key}|bookworm|http://mirror.example/debian/\n");
        assert_eq!(choose(&targets).as_deref(), Some("http://mirror.example/debian/"));
    }

    #[test]
    fn only_proxies_are_taken_over() {
        let dump =
            "APT::Architecture \"x\";\nAcquire::http::Proxy \"http://p:1\";\nAcquire::Languages \"de\";\n";
        assert_eq!(only_proxies(dump), "Acquire::http::Proxy \"http://p:1\";\n");
    }
}
