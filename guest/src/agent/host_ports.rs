//! Ports of the host's loopback under the same name in the guest.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ports::{HOST_CID, HOST_LOOPBACK};
use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_vsock::{VsockAddr, VsockStream};

use super::proxy::join_quietly;

/// How often a host is asked that does not answer.
const TRIES: u32 = 30;

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0} is not a TCP port")]
    NotAPort(u32),
    #[error("cannot listen on the guest's 127.0.0.1:{port}: {source}")]
    Listen { port: u16, source: io::Error },
}

/// The listeners that are open now.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    open: Mutex<HashMap<u16, Listening>>,
}

/// Ends when it is dropped, and then its port is free for all who bind as servers do (SO_REUSEADDR).
#[derive(Debug)]
struct Listening {
    listener: Arc<TcpListener>,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // The task drops its own later, and a process that is just being started has a copy until its exec: this ends them all.
        let _ = shutdown(&self.listener, Shutdown::Read);
    }
}

impl HostPorts {
    /// Opens a port; one that is open stays open.
    pub(super) async fn open(&self, port: u32) -> Result<(), Error> {
        let port = parse(port)?;
        if self.lock().contains_key(&port) {
            return Ok(());
        }
        let listener = match TcpListener::bind(("127.0.0.1", port)).await {
            // Somebody asked for the same port at the same time, and it is open now.
            Err(_) if self.lock().contains_key(&port) => return Ok(()),
            listener => listener.map_err(|source| Error::Listen { port, source })?,
        };
        let listener = Arc::new(listener);
        let task = tokio::spawn(forward(listener.clone(), port)).abort_handle();
        self.lock().insert(port, Listening { listener, task });
        Ok(())
    }

    /// Stops listening, and the port is free; connections that stand go on.
    pub(super) fn close(&self, port: u32) -> Result<(), Error> {
        self.lock().remove(&parse(port)?);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Listening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(port: u32) -> Result<u16, Error> {
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or(Error::NotAPort(port))
}

async fn forward(listener: Arc<TcpListener>, port: u16) {
    let address = VsockAddr::new(HOST_CID, HOST_LOOPBACK.saturating_add(port.into()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            // A host that does not allow the port resets; the client sees its connection closed.
            if let Ok(host) = connect(address).await {
                join_quietly(host, stream).await;
            }
        });
    }
}

/// The kernel gives a host two seconds to answer, and one that is busy may need more.
async fn connect(address: VsockAddr) -> io::Result<VsockStream> {
    for _ in 1..TRIES {
        match VsockStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            connected => return connected,
        }
    }
    VsockStream::connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens the first that is free. No two tests begin at the same, and all are below those that the kernel gives out.
    async fn open_from(mut port: u32, ports: &HostPorts) -> u32 {
        while ports.open(port).await.is_err() {
            port += 1;
        }
        port
    }

    #[tokio::test]
    async fn opening_twice_is_fine_and_what_is_closed_answers_nobody() {
        let ports = HostPorts::default();
        let port = open_from(20_000, &ports).await;
        ports.open(port).await.unwrap();
        let connect = || std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()));
        connect().unwrap();
        ports.close(port).unwrap();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_closed_port_is_free_though_a_process_that_is_being_started_has_a_copy_of_its_listener() {
        let ports = HostPorts::default();
        let port = open_from(25_000, &ports).await;
        let copy = |listening: &Listening| rustix::io::dup(&listening.listener).unwrap();
        let copies: Vec<_> = ports.lock().values().map(copy).collect();
        ports.close(port).unwrap();
        ports.open(port).await.unwrap();
        drop(copies);
        std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_port_and_what_is_taken_are_told() {
        let ports = HostPorts::default();
        assert_eq!(ports.open(65_536).await.unwrap_err().to_string(), "65536 is not a TCP port");
        assert_eq!(ports.close(0).unwrap_err().to_string(), "0 is not a TCP port");
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ports.open(port.into()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on the guest's 127.0.0.1:{port}: ")), "{error}");
    }
}
