//! The host's side of a connection: any connected stream socket, nonblocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown};

/// What a connection needs of a stream. Every call returns at once.
pub(super) trait Stream {
    /// `Ok(0)` is the end.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// The other side sees the end of what it reads.
    fn end_sending(&mut self);
    /// The other side's writes fail.
    fn end_receiving(&mut self);
}

/// A connected stream socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Whoever hands a stream over may have left it blocking.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(descriptor))
    }
}

impl Stream for Socket {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?.0),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn end_sending(&mut self) {
        // Fails only when the other side is already gone.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }

    fn end_receiving(&mut self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Read);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
