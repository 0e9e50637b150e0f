//! Mirrors: hosts that are asked before a registry, for what they have copies of.

use std::str::FromStr;

use super::ImageRef;
use super::reference::InvalidImageRef;

/// What a user who names no registry means.
const DEFAULT_REGISTRY: &str = "docker.io";

/// `[REGISTRY=]HOST[:PORT]`: a host that has what the registry has, under the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    registry: String,
    host: String,
}

/// Not a mirror.
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is no mirror; write HOST[:PORT] for one of docker.io, or REGISTRY=HOST[:PORT]")]
pub struct InvalidMirror(String);

impl FromStr for Mirror {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        let (registry, host) = text.split_once('=').unwrap_or((DEFAULT_REGISTRY, text));
        // A host is what may stand before an image's name.
        let is_host = |host: &str| {
            let image = format!("{host}/x/x").parse::<ImageRef>();
            image.is_ok_and(|image| image.registry() == host)
        };
        if is_host(registry) && is_host(host) {
            Ok(Self { registry: registry.to_owned(), host: host.to_owned() })
        } else {
            Err(InvalidMirror(text.to_owned()))
        }
    }
}

/// Where an image is looked for: at the mirrors of its registry in their order, and at the registry itself.
pub(super) fn places(image: &ImageRef, mirrors: &[Mirror]) -> Result<Vec<ImageRef>, InvalidImageRef> {
    let mirrors = mirrors.iter().filter(|mirror| mirror.registry == image.registry());
    let mut places = mirrors.map(|mirror| image.at(&mirror.host)).collect::<Result<Vec<_>, _>>()?;
    places.push(image.clone());
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_asked_before_their_registry_and_for_nothing_else() {
        let mirrors = ["127.0.0.1:5001", "docker.io=mirror.example", "quay.io=localhost:5002"];
        let mirrors: Vec<Mirror> = mirrors.map(|text| text.parse().unwrap()).into();
        let asked = |image: &str| {
            let places = places(&image.parse().unwrap(), &mirrors).unwrap();
            places.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            asked("busybox:1"),
            [
                "127.0.0.1:5001/library/busybox:1",
                "mirror.example/library/busybox:1",
                "docker.io/library/busybox:1"
            ]
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(
            asked(&format!("quay.io/a/b@{digest}")),
            [format!("localhost:5002/a/b@{digest}"), format!("quay.io/a/b@{digest}")]
        );
        assert_eq!(asked("ghcr.io/a/b"), ["ghcr.io/a/b:latest"]);
    }

    #[test]
    fn what_is_no_host_is_no_mirror() {
        for text in
            ["", "=", "a=", "quay.io=mirror", "quay.io=http://x.example", "x.example/path", "x.example:0"]
        {
            let error = text.parse::<Mirror>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("\"{text}\" is no mirror; ")), "{error}");
        }
    }
}
