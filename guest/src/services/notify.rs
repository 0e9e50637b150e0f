//! Readiness as services tell it: `READY=1` in a datagram to `$NOTIFY_SOCKET` (sd_notify(3)).

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

const DIRECTORY: &str = "/run/mvm/notify";

/// The socket of one service; the file's name tells who speaks.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    pub(super) fn path_of(service: &str) -> PathBuf {
        Path::new(DIRECTORY).join(service)
    }

    pub(super) fn bind(service: &str) -> io::Result<Self> {
        let path = Self::path_of(service);
        std::fs::create_dir_all(DIRECTORY)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { socket: UnixDatagram::bind(&path)?, path })
    }

    /// The variable for the service's environment.
    pub(super) fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path.display())
    }

    /// Waits until the service says that it is ready.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let mut message = [0; 4096];
        loop {
            let length = self.socket.recv(&mut message).await?;
            if says_ready(message.get(..length).unwrap_or_default()) {
                return Ok(());
            }
        }
    }
}

/// A message is lines of `KEY=value`.
fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::says_ready;

    #[test]
    fn ready_is_one_of_the_lines() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\n"));
        assert!(!says_ready(b"STATUS=READY=1"));
        assert!(!says_ready(b"READY=10\nSTOPPING=1"));
    }
}
