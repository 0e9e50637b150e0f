//! Ports of the host's loopback under the same name in the guest.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ports::{HOST_CID, HOST_LOOPBACK};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_vsock::{VsockAddr, VsockStream};

use super::proxy::join_quietly;

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
    open: Mutex<HashMap<u16, JoinHandle<()>>>,
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
        let task = tokio::spawn(forward(listener, port));
        self.lock().insert(port, task);
        Ok(())
    }

    /// Stops listening, and returns when the port is free; connections that stand go on.
    pub(super) async fn close(&self, port: u32) -> Result<(), Error> {
        let task = self.lock().remove(&parse(port)?);
        if let Some(task) = task {
            task.abort();
            // It ends as aborted, with its listener dropped.
            drop(task.await);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, JoinHandle<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(port: u32) -> Result<u16, Error> {
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or(Error::NotAPort(port))
}

async fn forward(listener: TcpListener, port: u16) {
    let address = VsockAddr::new(HOST_CID, HOST_LOOPBACK.saturating_add(port.into()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            // A host that does not allow the port resets; the client sees its connection closed.
            if let Ok(host) = VsockStream::connect(address).await {
                join_quietly(host, stream).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opening_twice_is_fine_and_closing_frees_the_port() {
        let ports = HostPorts::default();
        // Below the range from which the kernel gives out ports to others.
        let mut port = 20_000;
        while ports.open(port).await.is_err() {
            port += 1;
        }
        ports.open(port).await.unwrap();
        ports.close(port).await.unwrap();
        ports.open(port).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_port_and_what_is_taken_are_told() {
        let ports = HostPorts::default();
        assert_eq!(ports.open(65_536).await.unwrap_err().to_string(), "65536 is not a TCP port");
        assert_eq!(ports.close(0).await.unwrap_err().to_string(), "0 is not a TCP port");
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ports.open(port.into()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on the guest's 127.0.0.1:{port}: ")), "{error}");
    }
}
