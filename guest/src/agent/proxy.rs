//! Byte streams between the host and what listens in the guest.

use std::io;

use protocol::ports;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixStream};
use tokio_vsock::{VsockListener, VsockStream};

use super::connection::accept;
use crate::http;
use crate::logs::Logs;
use crate::services::DOCKER_SOCKET;

const BUFFER: usize = 128 * 1024;

/// Asks dockerd for BuildKit's control API on this connection (moby, api/server/router/grpc).
const UPGRADE: &[u8] =
    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";

/// What a port of the contract leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Docker,
    BuildKit,
    Tunnel,
}

/// Why a connection of the host could not be joined.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot reach {DOCKER_SOCKET}: {0}")]
    Docker(#[source] io::Error),
    #[error("{DOCKER_SOCKET} did not upgrade to BuildKit's API: {0}")]
    Upgrade(#[from] http::Error),
    #[error("{DOCKER_SOCKET} refused to upgrade to BuildKit's API: status {0}")]
    Refused(u16),
    #[error("the port for a tunnel did not come: {0}")]
    Preamble(#[source] io::Error),
    #[error("cannot reach 127.0.0.1:{port}: {source}")]
    Tcp { port: u16, source: io::Error },
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

impl Target {
    pub(super) fn port(self) -> u32 {
        match self {
            Self::Docker => ports::DOCKER,
            Self::BuildKit => ports::BUILDKIT,
            Self::Tunnel => ports::TUNNEL,
        }
    }
}

/// Joins every connection to the target, for ever.
pub(super) async fn serve(listener: VsockListener, target: Target, logs: Logs) {
    loop {
        let stream = accept(&listener).await;
        let logs = logs.clone();
        tokio::spawn(async move {
            match connect(stream, target).await {
                // A side that went away in the middle is everyday life.
                Ok(()) | Err(Error::Broken(_)) => {}
                Err(error) => logs.say(error.to_string()),
            }
        });
    }
}

async fn connect(mut stream: VsockStream, target: Target) -> Result<(), Error> {
    match target {
        Target::Docker => join(stream, docker().await?).await,
        Target::BuildKit => {
            let mut docker = docker().await?;
            let following = upgrade(&mut docker).await?;
            stream.write_all(&following).await?;
            join(stream, docker).await
        }
        Target::Tunnel => {
            let port = stream.read_u16().await.map_err(Error::Preamble)?;
            let local = TcpStream::connect(("127.0.0.1", port)).await;
            let local = local.map_err(|source| Error::Tcp { port, source })?;
            // Whole messages pass through here; waiting for more would only delay them.
            local.set_nodelay(true)?;
            join(stream, local).await
        }
    }
}

async fn docker() -> Result<UnixStream, Error> {
    UnixStream::connect(DOCKER_SOCKET).await.map_err(Error::Docker)
}

/// Sends the upgrade and returns what came behind the answer's head.
async fn upgrade(docker: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Vec<u8>, Error> {
    docker.write_all(UPGRADE).await.map_err(Error::Docker)?;
    let head = http::read_head(docker).await?;
    if head.status == 101 { Ok(head.following) } else { Err(Error::Refused(head.status)) }
}

/// Copies both ways until both sides have ended. The end of one is passed on as such and the other goes on:
/// `docker run` closes its input long before the output has come.
async fn join<A, B>(mut a: A, mut b: B) -> Result<(), Error>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER).await?;
    Ok(())
}

/// The same, for a connection that starts in the guest.
pub(super) async fn join_quietly(a: VsockStream, b: TcpStream) {
    drop(b.set_nodelay(true));
    drop(join(a, b).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn the_upgrade_keeps_what_the_server_said_at_once() {
        let (mut ours, mut theirs) = duplex(4096);
        let server = async {
            let mut request = vec![0; UPGRADE.len()];
            theirs.read_exact(&mut request).await.unwrap();
            assert!(request.starts_with(b"POST /grpc HTTP/1.1\r\n"));
            theirs.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\nSETTINGS").await.unwrap();
        };
        let (following, ()) = tokio::join!(upgrade(&mut ours), server);
        assert_eq!(following.unwrap(), b"SETTINGS");
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let error = upgrade(&mut ours).await.unwrap_err();
        assert_eq!(error.to_string(), "/run/docker.sock refused to upgrade to BuildKit's API: status 400");
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let joined = tokio::spawn(join(near, far));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.write_all(b"a late answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!((question.as_slice(), answer.as_slice()), (&b"question"[..], &b"a late answer"[..]));
        joined.await.unwrap().unwrap();
    }
}
