//! Where the Docker API is, and the connection to it.

use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};

use super::Error;

/// Bollard gives up on an answer's head after so many seconds; a pull's head comes with its first progress.
const PATIENCE: u64 = 600;

/// The unix socket of a Docker daemon: an instance's `docker.sock`, or what DOCKER_HOST names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
    is_instance: bool,
}

/// DOCKER_HOST names something other than a unix socket.
#[derive(Debug, thiserror::Error)]
#[error("DOCKER_HOST is \"{0}\", but mvm speaks to unix sockets only; write unix:///PATH, or unset it")]
pub struct InvalidHost(String);

impl Endpoint {
    /// `docker_host` is the value of DOCKER_HOST; empty counts as unset, as Docker's client has it.
    pub fn new(docker_host: Option<&str>, instance_socket: PathBuf) -> Result<Self, InvalidHost> {
        match docker_host.filter(|host| !host.is_empty()) {
            None => Ok(Self { socket: instance_socket, is_instance: true }),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(Self { socket: path.into(), is_instance: false }),
                _ => Err(InvalidHost(host.to_owned())),
            },
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether this is the socket of an mvm instance, whose supervisor opens and publishes ports.
    pub fn is_instance(&self) -> bool {
        self.is_instance
    }

    /// Connects, and agrees on a version of the API.
    pub async fn connect(&self) -> Result<Builder, Error> {
        let absent = |source: Box<dyn std::error::Error + Send + Sync>| Error::NoDaemon {
            socket: self.socket.clone(),
            source,
        };
        // Bollard tells a missing socket, a refused connection and a closed one in three ways: ask the kernel first.
        drop(tokio::net::UnixStream::connect(&self.socket).await.map_err(|error| absent(error.into()))?);
        let address = self.socket.to_string_lossy();
        let client = Docker::connect_with_unix(&address, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|error| absent(error.into()))?;
        let client = client.negotiate_version().await.map_err(|error| absent(error.into()))?;
        Ok(Builder { client, socket: self.socket.clone() })
    }
}

/// A Docker daemon that answers.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) client: Docker,
    pub(super) socket: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn docker_host_wins_over_the_instance() {
        let own = || "/run/mvm/default/docker.sock".into();
        assert!(Endpoint::new(None, own()).unwrap().is_instance());
        assert!(Endpoint::new(Some(""), own()).unwrap().is_instance());
        let other = Endpoint::new(Some("unix:///run/docker.sock"), own()).unwrap();
        assert_eq!(other.socket().to_str(), Some("/run/docker.sock"));
        assert!(!other.is_instance());
    }

    #[test]
    fn other_transports_are_refused() {
        let error = Endpoint::new(Some("tcp://127.0.0.1:2375"), "/x".into()).unwrap_err().to_string();
        assert_eq!(
            error,
            "DOCKER_HOST is \"tcp://127.0.0.1:2375\", but mvm speaks to unix sockets only; write unix:///PATH, or unset it"
        );
    }

    #[tokio::test]
    async fn nobody_there_says_how_to_start() {
        let endpoint = Endpoint::new(None, "/nonexistent/docker.sock".into()).unwrap();
        let error = endpoint.connect().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no builder answers at /nonexistent/docker.sock; start it with `mvm up`, and see `mvm status`"
        );
        assert!(error.is_no_machine());
    }
}
