//! Whether dockerd answers: one real request, once it has said that it is ready.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::http;

/// Where dockerd listens.
pub(crate) const DOCKER_SOCKET: &str = "/run/docker.sock";
const REQUEST: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
/// On a machine that emulates its processor and has other work to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why dockerd does not count as ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot reach {DOCKER_SOCKET}: {0}")]
    Connect(#[from] std::io::Error),
    #[error("no answer from {DOCKER_SOCKET} to GET /_ping: {0}")]
    Answer(#[from] http::Error),
    #[error("{DOCKER_SOCKET} answered GET /_ping with status {0}")]
    Status(u16),
    #[error("{DOCKER_SOCKET} did not answer GET /_ping within {} seconds", DEADLINE.as_secs())]
    Deadline,
}

/// Asks once, if there is a dockerd to ask.
pub(super) async fn ping() -> Result<bool, Error> {
    if !Path::new(DOCKER_SOCKET).exists() {
        return Ok(false);
    }
    tokio::time::timeout(DEADLINE, ask()).await.unwrap_or(Err(Error::Deadline)).map(|()| true)
}

async fn ask() -> Result<(), Error> {
    let mut stream = UnixStream::connect(DOCKER_SOCKET).await?;
    stream.write_all(REQUEST).await?;
    match http::read_head(&mut stream).await?.status {
        200 => Ok(()),
        status => Err(Error::Status(status)),
    }
}
