//! Sockets.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, getsockname};

/// How to send: a reader that is gone is an error and no signal. Rust's start sees to that, by ignoring the signal.
pub(crate) const SEND: SendFlags = SendFlags::empty();
/// How to receive a message that descriptors may come with.
pub(crate) const RECEIVE: RecvFlags = RecvFlags::empty();

/// Keeps a descriptor from children that came by [`RECEIVE`].
pub(crate) fn keep_from_children(received: &OwnedFd) {
    // Fails for no descriptor that is open.
    let _ = fcntl_setfd(received, FdFlags::CLOEXEC);
}

/// A connection that waits at a listener, nonblocking.
pub(crate) fn accept(listener: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let stream = rustix::net::accept(listener)?;
    keep_from_children(&stream);
    ioctl_fionbio(&stream, true)?;
    Ok(stream)
}

/// Whether it is a Unix socket.
pub(crate) fn is_unix(socket: impl AsFd) -> rustix::io::Result<bool> {
    Ok(getsockname(socket)?.address_family() == AddressFamily::UNIX)
}
