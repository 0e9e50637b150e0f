//! Sockets.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, accept_with, sockopt};

/// How to send: a reader that is gone is an error and no signal.
pub(crate) const SEND: SendFlags = SendFlags::NOSIGNAL;
/// How to receive a message that descriptors may come with: children inherit none of them.
pub(crate) const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// Keeps a descriptor from children that came by [`RECEIVE`]: it does so by itself.
pub(crate) fn keep_from_children(_received: &OwnedFd) {}

/// A connection that waits at a listener, nonblocking.
pub(crate) fn accept(listener: impl AsFd) -> rustix::io::Result<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Whether it is a Unix socket.
pub(crate) fn is_unix(socket: impl AsFd) -> rustix::io::Result<bool> {
    Ok(sockopt::socket_domain(socket)? == AddressFamily::UNIX)
}
