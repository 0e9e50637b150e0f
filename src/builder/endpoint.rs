//! Where the builder is: a unix socket that speaks BuildKit's control API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

use super::session::WINDOW;

/// A builder's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
}

/// Why there is no builder at an address.
#[derive(Debug, Error)]
pub enum EndpointError {
    #[error("no builder answers at {socket:?}; start it with `mvm up`")]
    Connect {
        socket: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
}

impl Endpoint {
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects; everything of one build goes over this one connection.
    pub(crate) async fn connect(&self) -> Result<Channel, EndpointError> {
        let socket: Arc<Path> = self.socket.as_path().into();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = Arc::clone(&socket);
            async move { UnixStream::connect(&socket).await.map(TokioIo::new) }
        });
        // The name stands in requests and means nothing to the daemon.
        tonic::transport::Endpoint::from_static("http://buildkit")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector(connector)
            .await
            .map_err(|source| EndpointError::Connect { socket: self.socket.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there() {
        let directory = tempfile::tempdir().unwrap();
        let error = Endpoint::unix(directory.path().join("none.sock")).connect().await.unwrap_err();
        assert!(error.to_string().ends_with("none.sock\"; start it with `mvm up`"), "{error}");
    }
}
