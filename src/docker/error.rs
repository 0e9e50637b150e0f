//! What can go wrong between a name of an image and a container's end.

use std::path::PathBuf;

use bollard::errors::Error as Api;

use crate::registry::Platform;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a container did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no builder answers at {}; start it with `mvm up`, and see `mvm status`", socket.display())]
    NoDaemon { socket: PathBuf, source: Cause },
    #[error("the connection to the builder was lost; `mvm status` says how it is")]
    Lost { source: Cause },
    #[error("image {image} not found: the registry {registry} has no such image; check the name and the tag")]
    ImageNotFound { image: String, registry: String },
    #[error(
        "the builder has image {image}, but not for {wanted}, and its registry cannot be asked: {reason}; build it for {wanted}, or pull it while the registry answers"
    )]
    PlatformNotHere { image: String, wanted: String, reason: String },
    #[error("image {image} is not for {wanted}; it is for {}; pass one of them as --platform", list(.has))]
    PlatformMissing { image: String, wanted: String, has: Vec<Platform> },
    #[error("cannot pull {image}: {reason}")]
    Pull { image: String, reason: String },
    #[error("image {image} is not in the builder, and --pull never forbids to fetch it")]
    NotPulled { image: String },
    #[error(
        "port {port} of 127.0.0.1 is taken by another program; choose another one, as -p {suggestion}:{container}"
    )]
    PortTaken { port: u16, suggestion: u16, container: u16 },
    #[error("cannot listen on port {port} of 127.0.0.1; choose one above 1023, as -p HOST:CONTAINER")]
    PortRefused { port: u16, source: std::io::Error },
    #[error("cannot run \"{program}\" in {image}: {reason}")]
    NotStarted { program: String, image: String, reason: String, status: u8 },
    #[error("the builder could not {what}: {reason}")]
    Refused { what: &'static str, reason: String },
    #[error(
        "the builder could not {what}: {reason}; the data disk is full: make it larger with `mvm down` and `mvm up --disk`"
    )]
    DiskFull { what: &'static str, reason: String },
    #[error("the builder has no container named {0}; `mvm ps --all` shows which it has")]
    NoContainer(String),
    #[error("cannot use this terminal")]
    Terminal(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

impl Error {
    pub(super) fn lost(source: impl Into<Cause>) -> Self {
        Self::Lost { source: source.into() }
    }

    /// Whether the machine is not there, or went away.
    pub fn is_no_machine(&self) -> bool {
        matches!(self, Self::NoDaemon { .. } | Self::Lost { .. })
    }

    /// What the API answered to an attempt to do `what` ("create the container").
    pub(super) fn from_api(what: &'static str, error: Api) -> Self {
        match message(&error) {
            Some((_, reason)) if reason.contains("no space left on device") => {
                Self::DiskFull { what, reason }
            }
            Some((_, reason)) => Self::Refused { what, reason },
            None => Self::Lost { source: error.into() },
        }
    }
}

/// Status and text of what the daemon itself said; none when the connection failed.
pub(super) fn message(error: &Api) -> Option<(u16, String)> {
    match error {
        Api::DockerResponseServerError { status_code, message } => {
            Some((*status_code, message.trim().to_owned()))
        }
        // Inside a stream whose head was already sent as a success.
        Api::DockerStreamError { error } => Some((500, error.trim().to_owned())),
        _ => None,
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Api, Error};
    use crate::registry::Platform;

    #[test]
    fn a_full_disk_is_told_from_other_refusals() {
        let of = |message: &str| {
            let error = Api::DockerResponseServerError { status_code: 500, message: message.to_owned() };
            Error::from_api("create the container", error).to_string()
        };
        assert_eq!(
            of("mkdir /x: no space left on device"),
            "the builder could not create the container: mkdir /x: no space left on device; the data disk is full: make it larger with `mvm down` and `mvm up --disk`"
        );
        assert_eq!(of("no such thing\n"), "the builder could not create the container: no such thing");
    }

    #[test]
    fn a_missing_platform_lists_what_there_is() {
        let has = vec![Platform::new("linux", "amd64", ""), Platform::new("linux", "arm", "v7")];
        let error = Error::PlatformMissing { image: "demo".into(), wanted: "linux/s390x".into(), has };
        assert_eq!(
            error.to_string(),
            "image demo is not for linux/s390x; it is for linux/amd64, linux/arm/v7; pass one of them as --platform"
        );
    }
}
