//! Answers on `supervisor.sock`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::board::Board;
use super::leases::Leases;
use super::protocol::{Event, Reply, Request};

/// A client says at once what it wants, and no request is longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take until it is known which container has a port, and how often that is looked at.
const NEWS_OF_PORTS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);
const LONGEST_REQUEST: u64 = 64 * 1024;

/// What the requests act on.
#[derive(Debug)]
pub(super) struct Server {
    pub board: Arc<Board>,
    pub leases: Leases,
    /// Set to true to ask for an orderly end.
    pub down: watch::Sender<bool>,
    /// Held by each that is still to be told of the end.
    pub untold: Arc<()>,
}

/// Accepts until the task is dropped.
pub(super) async fn serve(listener: UnixListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &server).await {
                        tracing::debug!(%error, "a client of the supervisor left");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on supervisor.sock");
                // Out of descriptors, perhaps: trying at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, server: &Server) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    let reading = (&mut read).take(LONGEST_REQUEST);
    tokio::pin!(reading);
    tokio::time::timeout(REQUEST_TIMEOUT, reading.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Request::Status) => send(&mut write, &Reply::Status(Box::new(server.board.status()))).await,
        Ok(Request::Events) => {
            let _untold = Arc::clone(&server.untold);
            events(&mut write, server).await
        }
        Ok(Request::Down) => {
            let _untold = Arc::clone(&server.untold);
            server.down.send_replace(true);
            let orderly = ends_orderly(server).await;
            send(&mut write, &Reply::Stopped { orderly }).await
        }
        Ok(Request::OpenPorts { ports }) => open_ports(read, &mut write, server, ports).await,
        Err(error) => {
            let sentence =
                format!("the request is not understood: {error}; is this mvm as new as the supervisor?");
            send(&mut write, &Reply::Error(sentence)).await
        }
    }
}

async fn events(write: &mut OwnedWriteHalf, server: &Server) -> std::io::Result<()> {
    let mut count = server.board.count();
    let mut sent = 0_usize;
    loop {
        count.mark_unchanged();
        for event in server.board.events_from(sent) {
            sent = sent.saturating_add(1);
            let is_last = matches!(event, Event::Stopped { .. } | Event::Failed(_));
            send(write, &Reply::Event(event)).await?;
            if is_last {
                return Ok(());
            }
        }
        if count.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Waits for the end of the machine.
async fn ends_orderly(server: &Server) -> bool {
    let mut count = server.board.count();
    loop {
        match server.board.events_from(0).last() {
            Some(Event::Stopped { orderly }) => return *orderly,
            Some(Event::Failed(_)) => return true,
            _ => {}
        }
        if count.changed().await.is_err() {
            return true;
        }
    }
}

/// The ports are open until the client closes its side.
async fn open_ports(
    mut read: BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    server: &Server,
    mut ports: Vec<u16>,
) -> std::io::Result<()> {
    let deadline = Instant::now() + NEWS_OF_PORTS;
    let lease = loop {
        // A port that a container publishes is at the guest's loopback already, and ours leads there too.
        let published = server.board.status().published_ports;
        ports.retain(|port| !published.iter().any(|other| other.port == *port && other.problem.is_none()));
        match server.leases.open(ports.clone()).await {
            Ok(lease) => break lease,
            // Perhaps a container's, of which we have not heard yet.
            Err(error) if error.is_taken() && Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Err(error) => return send(write, &Reply::Error(error.to_string())).await,
        }
    };
    let answered = send(write, &Reply::Opened).await;
    if answered.is_ok() {
        // Whatever comes, the end of it is what counts.
        let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
    }
    lease.close().await;
    answered
}

async fn send(write: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}
