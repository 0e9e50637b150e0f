//! One message on the wire: four bytes of length, little endian, then JSON; a descriptor comes with the first byte.
//!
//! The reader asks the kernel for exactly the rest of the part that it is in, so a descriptor can only have come
//! with the message that is being read, however the bytes were cut on the way.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage};
use serde::{Serialize, de::DeserializeOwned};

use crate::platform;

/// The longest message, in bytes of JSON. A configuration with long paths is a few thousand.
pub const MAX_MESSAGE: usize = 1 << 20;

/// A descriptor that comes with no message that wants one is closed; a second one is an error.
const MAX_DESCRIPTORS: usize = 4;

/// What can go wrong between supervisor and machine.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the control socket failed")]
    Socket(#[source] io::Error),
    #[error("a control message of {0} bytes was announced; {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    #[error("the control socket ended in the middle of a message")]
    CutShort,
    #[error("the other side of the control socket is gone")]
    Closed,
    #[error("a control message came with {0} descriptors; one is allowed")]
    TooManyDescriptors(usize),
    #[error("a control message is not understood")]
    Malformed(#[source] serde_json::Error),
}

/// A message as it travels.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ChannelError> {
    let body = serde_json::to_vec(message).map_err(ChannelError::Malformed)?;
    let length = u32::try_from(body.len()).map_err(|_| ChannelError::TooLong(body.len()))?;
    if body.len() > MAX_MESSAGE {
        return Err(ChannelError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(body.len().saturating_add(HEADER));
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

const HEADER: usize = 4;

/// Sends what the socket takes of `bytes`, the descriptor with the first of them. Returns how many went.
pub(super) fn send_some(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor beside the message"));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, platform::SEND)?)
}

/// A whole message that came in.
pub(super) type Received<T> = Option<(T, Option<OwnedFd>)>;

/// Puts messages together from what the socket gives. It keeps what it has between calls, so a caller may stop
/// waiting at any time and come back.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The part being read: first the length, then the body.
    part: Vec<u8>,
    filled: usize,
    in_body: bool,
    descriptors: Vec<OwnedFd>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { part: vec![0; HEADER], filled: 0, in_body: false, descriptors: Vec::new() }
    }
}

impl Incoming {
    /// Reads until a message is whole (`Some`) or the other side closed between two messages (`None`). On a
    /// nonblocking socket, [`io::ErrorKind::WouldBlock`] comes back as the inner error.
    pub(super) fn read<T: DeserializeOwned>(
        &mut self,
        socket: impl AsFd,
    ) -> Result<Received<T>, ChannelError> {
        loop {
            while self.filled < self.part.len() {
                if self.read_some(&socket).map_err(ChannelError::Socket)? == 0 {
                    return if self.filled == 0 && !self.in_body {
                        Ok(None)
                    } else {
                        Err(ChannelError::CutShort)
                    };
                }
            }
            if self.in_body {
                return self.finish().map(Some);
            }
            self.begin_body()?;
        }
    }

    fn read_some(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let rest = self.part.get_mut(self.filled..).unwrap_or_default();
        let received = loop {
            let mut parts = [IoSliceMut::new(rest)];
            match rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, platform::RECEIVE) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors.inspect(platform::keep_from_children));
            }
        }
        self.filled = self.filled.saturating_add(received.bytes);
        Ok(received.bytes)
    }

    fn begin_body(&mut self) -> Result<(), ChannelError> {
        let mut header = [0; HEADER];
        header.copy_from_slice(&self.part);
        let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(ChannelError::TooLong(length));
        }
        self.part = vec![0; length];
        self.filled = 0;
        self.in_body = true;
        Ok(())
    }

    fn finish<T: DeserializeOwned>(&mut self) -> Result<(T, Option<OwnedFd>), ChannelError> {
        let whole = std::mem::take(self);
        let count = whole.descriptors.len();
        if count > 1 {
            return Err(ChannelError::TooManyDescriptors(count));
        }
        let message = serde_json::from_slice(&whole.part).map_err(ChannelError::Malformed)?;
        Ok((message, whole.descriptors.into_iter().next()))
    }
}
