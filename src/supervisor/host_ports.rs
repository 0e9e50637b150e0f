//! Which TCP ports of the host's loopback the guest may reach, and the way there.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::ports::HOST_LOOPBACK;
use tokio::net::TcpStream;

/// A connection within this machine stands at once or will not; only on a busy one it may have to wait.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The allow-list: each port with the number of those who want it open.
#[derive(Debug, Clone, Default)]
pub(super) struct HostPorts {
    open: Arc<Mutex<BTreeMap<u16, usize>>>,
}

impl HostPorts {
    /// Returns whether the port was closed before.
    pub(super) fn open(&self, port: u16) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = open.entry(port).or_default();
        *holders = holders.saturating_add(1);
        *holders == 1
    }

    /// Returns whether the port is closed now.
    pub(super) fn close(&self, port: u16) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = open.get_mut(&port) else { return false };
        *holders = holders.saturating_sub(1);
        let last = *holders == 0;
        if last {
            open.remove(&port);
        }
        last
    }

    /// The open ports, ascending.
    pub(super) fn all(&self) -> Vec<u16> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The TCP port behind a vsock port of the host, if it is open.
    fn behind(&self, vsock_port: u32) -> Option<u16> {
        let port = u16::try_from(vsock_port.checked_sub(HOST_LOOPBACK)?).ok()?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&port).then_some(port)
    }

    /// Connects to what the guest asked for. Never to anything but an open port of 127.0.0.1.
    pub(super) async fn dial(&self, vsock_port: u32) -> io::Result<OwnedFd> {
        let refused = || {
            io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the port is not open for the guest; `mvm up --host-port` opens one",
            )
        };
        let port = self.behind(vsock_port).ok_or_else(refused)?;
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let stream = tokio::time::timeout(DIAL_TIMEOUT, connecting).await??;
        stream.set_nodelay(true)?;
        Ok(stream.into_std()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{HOST_LOOPBACK, HostPorts};

    #[test]
    fn port_stays_open_until_the_last_holder_leaves() {
        let ports = HostPorts::default();
        assert!(ports.open(5000));
        assert!(!ports.open(5000));
        assert_eq!(ports.all(), [5000]);
        assert!(!ports.close(5000));
        assert_eq!(ports.behind(HOST_LOOPBACK + 5000), Some(5000));
        assert!(ports.close(5000));
        assert_eq!(ports.behind(HOST_LOOPBACK + 5000), None);
        assert!(!ports.close(5000));
    }

    #[tokio::test]
    async fn only_open_ports_are_dialed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = HostPorts::default();
        for vsock in [HOST_LOOPBACK + u32::from(port), u32::from(port), HOST_LOOPBACK, 0, u32::MAX] {
            let error = ports.dial(vsock).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "the port is not open for the guest; `mvm up --host-port` opens one",
                "{vsock}"
            );
        }
        ports.open(port);
        ports.dial(HOST_LOOPBACK + u32::from(port)).await.unwrap();
        assert!(ports.dial(u32::from(port)).await.is_err());
    }
}
