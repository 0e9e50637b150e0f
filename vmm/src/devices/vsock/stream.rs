//! The host's side of a connection: any connected stream socket, nonblocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::platform;

/// What a connection needs of a stream. Every call returns at once.
pub(super) trait Stream {
    /// `Ok(0)` is the end.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Whether there is something to receive other than the end.
    fn holds_bytes(&self) -> bool;
    /// The other side sees the end of what it reads.
    fn end_sending(&mut self);
    /// Nobody wants what the other side sends. Where the kind of socket allows it, its writes fail from now on; otherwise
    /// they go on, and what they bring is to be received and thrown away.
    fn end_receiving(&mut self);
}

/// A connected stream socket.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
    is_unix: bool,
}

impl Socket {
    /// Whoever hands a stream over may have left it blocking.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let is_unix = platform::is_unix(&descriptor)?;
        Ok(Self { descriptor, is_unix })
    }
}

impl Stream for Socket {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.descriptor, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?.0),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(&self.descriptor, bytes, SendFlags::DONTWAIT | platform::SEND) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn holds_bytes(&self) -> bool {
        let mut byte = [0];
        rustix::net::recv(&self.descriptor, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK)
            .is_ok_and(|(count, _)| count > 0)
    }

    fn end_sending(&mut self) {
        // Fails only when the other side is already gone.
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Write);
    }

    fn end_receiving(&mut self) {
        // TCP would tell the writer nothing, and us that there is nothing to receive although there is.
        if self.is_unix {
            let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Read);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
