//! The connection to the Docker API.

use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Error;

/// Bollard gives up on an answer's head after so many seconds; a pull's head comes with its first progress.
const PATIENCE: u64 = 600;

/// A Docker daemon that answers.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) client: Docker,
    pub(super) socket: PathBuf,
}

impl Builder {
    /// Connects to a unix socket, and agrees on a version of the API.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let absent = |source: Box<dyn std::error::Error + Send + Sync>| Error::NoDaemon {
            socket: socket.to_owned(),
            source,
        };
        // Bollard tells a missing socket, a refused connection and a closed one in three ways: ask the kernel first.
        drop(tokio::net::UnixStream::connect(socket).await.map_err(|error| absent(error.into()))?);
        let address = socket.to_string_lossy();
        let client = Docker::connect_with_unix(&address, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|error| absent(error.into()))?;
        let client = client.negotiate_version().await.map_err(|error| absent(error.into()))?;
        Ok(Self { client, socket: socket.to_owned() })
    }

    /// A POST on a connection of its own, for what bollard does not show: the head of an answer before its body, and a stream
    /// byte for byte, which `upgrade` asks for. `what` is said to have failed.
    pub(super) async fn post(
        &self,
        what: &'static str,
        path: &str,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v{}{path}", self.client.client_version()))
            .header(header::HOST, "docker");
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(Error::lost)?;
        let stream = UnixStream::connect(&self.socket).await.map_err(Error::lost)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::lost)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(Error::lost)?;
        let wanted = if upgrade { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
        if response.status() == wanted {
            return Ok(response);
        }
        let reason = response.into_body().collect().await.map_err(Error::lost)?.to_bytes();
        Err(Error::Refused { what, reason: String::from_utf8_lossy(&reason).trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Builder;

    #[tokio::test]
    async fn nobody_there_says_how_to_start() {
        let error = Builder::connect(Path::new("/nonexistent/docker.sock")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no builder answers at /nonexistent/docker.sock; start it with `mvm up`, and see `mvm status`"
        );
        assert!(error.is_no_machine());
    }
}
