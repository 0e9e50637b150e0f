//! The name of an image, as a user writes it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use oci_client::Reference;

use super::grammar::parse;

/// Where plain HTTP is spoken when a name gives no port.
const HTTP_PORT: u16 = 80;

/// `[REGISTRY/]NAME[:TAG][@DIGEST]`, checked; what a user left out is filled in as Docker does (`docker.io`,
/// `library/`, `:latest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    written: String,
    full: Reference,
}

/// Not the name of an image.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{written}\" is not the name of an image: {reason}; write NAME, NAME:TAG or NAME@sha256:DIGEST, with the registry's HOST:PORT/ before it if it is not Docker Hub"
)]
pub struct InvalidImageRef {
    written: String,
    reason: String,
}

impl ImageRef {
    /// As the user wrote it, which may also be the identifier of an image that the builder has.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// `127.0.0.1:5000`, `docker.io`.
    pub fn registry(&self) -> &str {
        self.full.registry()
    }

    /// Names certain content, which no build can be told to have.
    pub fn has_digest(&self) -> bool {
        self.full.digest().is_some()
    }

    pub fn tag(&self) -> Option<&str> {
        self.full.tag()
    }

    /// Whether its tag was written, and not filled in.
    pub fn has_written_tag(&self) -> bool {
        let name = self.written.split('@').next().unwrap_or_default();
        name.rsplit('/').next().is_some_and(|last| last.contains(':'))
    }

    /// As Docker's clients show it: without what would be filled in.
    pub fn familiar(&self) -> String {
        let full = self.full.to_string();
        let name = full.strip_prefix("docker.io/").unwrap_or(&full);
        let name = name.strip_prefix("library/").filter(|_| name.len() < full.len()).unwrap_or(name);
        name.strip_suffix(":latest").unwrap_or(name).to_owned()
    }

    /// Whether both are names in one repository.
    pub(super) fn is_in_repository_of(&self, other: &Self) -> bool {
        (self.registry(), self.full.repository()) == (other.registry(), other.full.repository())
    }

    /// Whether plain HTTP is spoken with its registry.
    pub fn speaks_http(&self) -> bool {
        speaks_http(self.registry())
    }

    /// The same name in another registry.
    pub(super) fn at(&self, registry: &str) -> Result<Self, InvalidImageRef> {
        let name = self.full.repository();
        let tag = self.full.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.full.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{registry}/{name}{tag}{digest}").parse()
    }

    /// Its repository alone, with its registry.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.full.registry(), self.full.repository())
    }

    /// What has another tag in the same repository.
    pub fn with_tag(&self, tag: &str) -> Self {
        let (registry, name) = (self.full.registry().to_owned(), self.full.repository().to_owned());
        let full = Reference::with_tag(registry, name, tag.to_owned());
        Self { written: full.whole(), full }
    }

    /// What lies under a digest in the same repository.
    pub fn with_digest(&self, digest: &str) -> Self {
        let full = self.full.clone_with_digest(digest.to_owned());
        Self { written: full.whole(), full }
    }

    pub(super) fn full(&self) -> &Reference {
        &self.full
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(written: &str) -> Result<Self, InvalidImageRef> {
        let invalid = |reason: String| InvalidImageRef { written: written.to_owned(), reason };
        let full = parse(written).map_err(|wrong| invalid(wrong.to_string()))?;
        match full.registry().rsplit_once(':') {
            Some((_, port)) if !port.parse::<u16>().is_ok_and(|port| port != 0) => {
                Err(invalid(format!("its registry's port {port} is no number from 1 to 65535")))
            }
            _ => Ok(Self { written: written.to_owned(), full }),
        }
    }
}

/// The whole name, with everything that was left out.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full.fmt(f)
    }
}

/// The port of the host's 127.0.0.1 that has to be opened in the guest before the builder can reach this image's
/// registry; none for a registry elsewhere.
pub fn loopback_port(image: &ImageRef) -> Option<u16> {
    let (host, port) = host_and_port(image.registry());
    // The tunnel ends at 127.0.0.1: other addresses of 127.0.0.0/8 are different registries, and stay closed.
    (host == "localhost" || host == "127.0.0.1").then_some(port.unwrap_or(HTTP_PORT))
}

/// Whether plain HTTP is spoken with this registry: on loopback only, as Docker's default has it
/// (`insecure-registries: 127.0.0.0/8`).
pub(super) fn speaks_http(registry: &str) -> bool {
    let (host, _) = host_and_port(registry);
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn host_and_port(registry: &str) -> (&str, Option<u16>) {
    match registry.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (registry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageRef, loopback_port, speaks_http};

    #[test]
    fn a_port_that_is_none_is_refused() {
        for name in ["localhost:99999/x", "example.com:0/x"] {
            let error = name.parse::<ImageRef>().unwrap_err().to_string();
            assert!(error.contains("is no number from 1 to 65535"), "{error}");
        }
    }

    fn image(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_left_out_is_filled_in() {
        assert_eq!(image("busybox").to_string(), "docker.io/library/busybox:latest");
        assert_eq!(image("127.0.0.1:5000/demo").to_string(), "127.0.0.1:5000/demo:latest");
        assert_eq!(image("busybox").written(), "busybox");
        let digest = format!("localhost:5000/a/b@sha256:{}", "0".repeat(64));
        assert_eq!(image(&digest).to_string(), digest);
    }

    #[test]
    fn what_is_understood_is_left_out() {
        for (name, familiar) in [
            ("docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "alpine:3"),
            ("docker.io/me/app", "me/app"),
            ("localhost:5000/library/x", "localhost:5000/library/x"),
            ("ghcr.io/a/b:latest", "ghcr.io/a/b"),
        ] {
            assert_eq!(image(name).familiar(), familiar);
        }
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert_eq!(image(&digest).familiar(), digest);
        let tagged = |name: &str| image(name).has_written_tag();
        assert!(tagged("a/b:1") && tagged("localhost:5000/a:latest"));
        assert!(!tagged("localhost:5000/a") && !tagged("b") && !tagged(&digest));
    }

    #[test]
    fn ports_of_loopback_registries() {
        assert_eq!(loopback_port(&image("127.0.0.1:5000/demo:1")), Some(5000));
        assert_eq!(loopback_port(&image("localhost:81/demo")), Some(81));
        assert_eq!(loopback_port(&image("localhost/demo")), Some(80));
        assert_eq!(loopback_port(&image("127.0.0.2:5000/demo")), None);
        assert_eq!(loopback_port(&image("127.0.0.1.example.com/demo")), None);
        assert_eq!(loopback_port(&image("busybox")), None);
    }

    #[test]
    fn plain_http_on_loopback_only() {
        assert!(speaks_http("127.0.0.1:5000"));
        assert!(speaks_http("127.8.0.1"));
        assert!(speaks_http("localhost:5000"));
        assert!(!speaks_http("docker.io"));
        assert!(!speaks_http("10.0.0.1:5000"));
        assert!(!speaks_http("127.0.0.1.example.com:80"));
    }

    #[test]
    fn a_wrong_name_is_refused_with_a_remedy() {
        let error = "Demo:1".parse::<ImageRef>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"Demo:1\" is not the name of an image: \"Demo\" has capital letters; write NAME, NAME:TAG or NAME@sha256:DIGEST, with the registry's HOST:PORT/ before it if it is not Docker Hub"
        );
    }
}
