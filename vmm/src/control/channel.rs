//! The machine's end: blocking, used from threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use super::frame::{self, ChannelError, Incoming};

/// One end of the socket pair, blocking.
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
    /// Keeps two senders' frames apart.
    sending: Mutex<()>,
}

/// What reads from a [`Channel`]; there is one, so that no two readers share a message.
#[derive(Debug)]
pub struct ChannelReader {
    socket: UnixStream,
    incoming: Incoming,
}

impl Channel {
    /// Takes one end of a stream socket pair.
    pub fn new(socket: UnixStream) -> Result<(Self, ChannelReader), ChannelError> {
        socket.set_nonblocking(false).map_err(ChannelError::Socket)?;
        // An inherited descriptor has lost the flag, and a child of ours that kept it would keep the lifeline alive.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| ChannelError::Socket(error.into()))?;
        let reading = socket.try_clone().map_err(ChannelError::Socket)?;
        let reader = ChannelReader { socket: reading, incoming: Incoming::default() };
        Ok((Self { socket, sending: Mutex::new(()) }, reader))
    }

    /// As [`Channel::new`], from a descriptor that was inherited.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<(Self, ChannelReader), ChannelError> {
        Self::new(UnixStream::from(descriptor))
    }

    /// Sends a whole message; waits while the other side does not read.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChannelError> {
        let bytes = frame::encode(message)?;
        let _whole_frame = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes.as_slice();
        let mut descriptor = descriptor;
        while !rest.is_empty() {
            match frame::send_some(self.socket.as_fd(), rest, descriptor) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or_default();
                    descriptor = None;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Err(ChannelError::Closed);
                }
                Err(error) => return Err(ChannelError::Socket(error)),
            }
        }
        Ok(())
    }

    /// Ends both directions: a reader that waits wakes up and sees the end.
    pub fn close(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl ChannelReader {
    /// The next message and its descriptor; `None` when the other side has closed.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Option<OwnedFd>)>, ChannelError> {
        self.incoming.read(&self.socket)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;
    use crate::control::{FromMachine, MAX_MESSAGE, Outcome, ToMachine};

    fn pair() -> (Channel, ChannelReader) {
        let (a, b) = UnixStream::pair().unwrap();
        (Channel::new(a).unwrap().0, Channel::new(b).unwrap().1)
    }

    #[test]
    fn messages_arrive_in_order_each_with_its_own_descriptor() {
        let (sender, mut receiver) = pair();
        let file = tempfile::tempfile().unwrap();
        sender.send(&ToMachine::Unlisten { guest_port: 7 }, None).unwrap();
        sender.send(&ToMachine::Dialed { id: 1 }, Some(file.as_fd())).unwrap();
        sender.send(&ToMachine::Refused { id: 2 }, None).unwrap();
        drop(sender);

        let (first, none) = receiver.receive::<ToMachine>().unwrap().unwrap();
        assert_eq!(first, ToMachine::Unlisten { guest_port: 7 });
        assert!(none.is_none());
        let (second, descriptor) = receiver.receive::<ToMachine>().unwrap().unwrap();
        assert_eq!(second, ToMachine::Dialed { id: 1 });
        File::from(descriptor.unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        let mut file = file;
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let (third, none) = receiver.receive::<ToMachine>().unwrap().unwrap();
        assert_eq!(third, ToMachine::Refused { id: 2 });
        assert!(none.is_none());
        assert!(receiver.receive::<ToMachine>().unwrap().is_none());
    }

    #[test]
    fn a_message_larger_than_the_socket_buffer_arrives_whole() {
        let (sender, mut receiver) = pair();
        let preamble = vec![200; 250_000];
        let message = ToMachine::Connect { guest_port: 4, preamble };
        let sent = message.clone();
        let thread = std::thread::spawn(move || sender.send(&sent, None));
        assert_eq!(receiver.receive::<ToMachine>().unwrap().unwrap().0, message);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let (a, b) = UnixStream::pair().unwrap();
        let (_, mut receiver) = Channel::new(b).unwrap();
        (&a).write_all(&u32::MAX.to_le_bytes()).unwrap();
        let error = receiver.receive::<ToMachine>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a control message of 4294967295 bytes was announced; {MAX_MESSAGE} are allowed")
        );
    }

    #[test]
    fn an_end_inside_a_message_is_not_taken_for_a_clean_one() {
        let (a, b) = UnixStream::pair().unwrap();
        let (_, mut receiver) = Channel::new(b).unwrap();
        (&a).write_all(&[9, 0, 0, 0, b'{']).unwrap();
        drop(a);
        let error = receiver.receive::<ToMachine>().unwrap_err();
        assert_eq!(error.to_string(), "the control socket ended in the middle of a message");
    }

    #[test]
    fn a_message_of_the_wrong_shape_is_named_so() {
        let (sender, mut receiver) = pair();
        sender.send(&FromMachine::Ended(Outcome::PoweredOff), None).unwrap();
        let error = receiver.receive::<ToMachine>().unwrap_err();
        assert_eq!(error.to_string(), "a control message is not understood");
    }

    #[test]
    fn sending_to_nobody_says_that_the_other_side_is_gone() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        let (sender, _) = Channel::new(a).unwrap();
        let error = sender.send(&FromMachine::Started { lacks: Vec::new() }, None).unwrap_err();
        assert_eq!(error.to_string(), "the other side of the control socket is gone");
    }
}
