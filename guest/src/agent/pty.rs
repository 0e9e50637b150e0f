//! The master side of a terminal.

use std::io;
use std::os::fd::OwnedFd;

use protocol::agent::WindowSize;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

/// Reads what programs print and writes what people type.
#[derive(Debug)]
pub(super) struct Pty {
    master: AsyncFd<OwnedFd>,
}

impl Pty {
    /// A new terminal: this side, and the one to give to a program.
    pub(super) fn open(size: WindowSize) -> io::Result<(Self, OwnedFd)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&master)?;
        let slave =
            ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the AsyncFd from here on and nothing takes it out again, so it stays open
        // for as long as it is registered.
        let master = unsafe { AsyncFd::register(master) }?;
        let pty = Self { master };
        pty.resize(size)?;
        Ok((pty, slave))
    }

    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let size =
            Winsize { ws_row: cells(size.rows), ws_col: cells(size.columns), ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.master.get_ref(), size)?)
    }

    /// Zero bytes mean that no program has the terminal any more: Linux says that with EIO.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(0),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.master.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                bytes = bytes.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_prints_is_read_until_it_is_gone() {
        let (pty, slave) = Pty::open(WindowSize { rows: 24, columns: 80 }).unwrap();
        rustix::io::write(&slave, b"hello\n").unwrap();
        let mut buffer = [0; 64];
        let length = pty.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"hello\r\n");
        pty.write_all(b"x").await.unwrap();
        pty.resize(WindowSize { rows: 100_000, columns: 1 }).unwrap();
        assert_eq!(rustix::termios::tcgetwinsize(&slave).unwrap().ws_row, u16::MAX);
        drop(slave);
        while pty.read(&mut buffer).await.unwrap() != 0 {}
    }
}
