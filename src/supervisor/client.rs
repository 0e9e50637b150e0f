//! A command's end of `supervisor.sock`.

use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Reply, Request, Status};
use crate::instance::Paths;

/// One request and its answers.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no virtual machine runs: {} does not answer; `mvm up` starts it", .0.display())]
    NotRunning(PathBuf),
    #[error("the connection to the supervisor was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the supervisor ended")]
    Ended,
    #[error(
        "the supervisor's answer is not understood: {0}; is it from another version of mvm? `mvm down` ends it"
    )]
    Answer(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Whether there is no supervisor to talk to (any more).
    pub fn is_no_machine(&self) -> bool {
        matches!(self, Self::NotRunning(_) | Self::Lost(_) | Self::Ended)
    }
}

impl Client {
    /// Connects and asks.
    pub async fn ask(paths: &Paths, request: &Request) -> Result<Self, Error> {
        let socket = paths.supervisor_socket();
        let stream = UnixStream::connect(&socket).await.map_err(|_| Error::NotRunning(socket))?;
        let mut stream = BufReader::new(stream);
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        Ok(Self { stream })
    }

    /// The next answer; `None` when the supervisor has ended.
    pub async fn next(&mut self) -> Result<Option<Reply>, Error> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line)? {
            Reply::Error(sentence) => Err(Error::Refused(sentence)),
            reply => Ok(Some(reply)),
        }
    }
}

/// The status of an instance whose supervisor runs.
pub async fn status(paths: &Paths) -> Result<Status, Error> {
    match Client::ask(paths, &Request::Status).await?.next().await? {
        Some(Reply::Status(status)) => Ok(*status),
        _ => Err(Error::Ended),
    }
}

/// Ends the machine and its supervisor; false if the guest had to be killed for that.
pub async fn down(paths: &Paths) -> Result<bool, Error> {
    let mut client = Client::ask(paths, &Request::Down).await?;
    // However the connection ends, the supervisor has ended.
    Ok(!matches!(client.next().await, Ok(Some(Reply::Stopped { orderly: false }))))
}

/// Ports of the host that the guest reaches as long as this lives.
#[derive(Debug, Default)]
pub struct OpenPorts {
    _connection: Option<Client>,
}

/// Opens ports of the host's 127.0.0.1 for the guest; no ports are no connection.
pub async fn open_ports(paths: &Paths, ports: Vec<u16>) -> Result<OpenPorts, Error> {
    if ports.is_empty() {
        return Ok(OpenPorts::default());
    }
    let mut client = Client::ask(paths, &Request::OpenPorts { ports }).await?;
    match client.next().await? {
        Some(Reply::Opened) => Ok(OpenPorts { _connection: Some(client) }),
        _ => Err(Error::Ended),
    }
}
