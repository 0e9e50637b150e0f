//! The supervisor's end: asynchronous, on tokio.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::frame::{self, ChannelError, Incoming};
use super::{FromMachine, ToMachine};

/// Messages that may wait for the machine to read them before senders wait too.
const WAITING: usize = 64;

/// The supervisor's end of the socket pair. Dropping both halves closes it, and that ends the machine.
#[derive(Debug)]
pub struct SupervisorEnd {
    pub sender: MachineSender,
    pub receiver: MachineReceiver,
}

/// Sends to the machine. Clones share the socket.
#[derive(Debug, Clone)]
pub struct MachineSender {
    frames: mpsc::Sender<(Vec<u8>, Option<OwnedFd>)>,
}

/// Receives from the machine.
#[derive(Debug)]
pub struct MachineReceiver {
    socket: Arc<UnixStream>,
    incoming: Incoming,
}

impl SupervisorEnd {
    /// Takes one end of a stream socket pair. Has to be called within a tokio runtime.
    pub fn new(socket: std::os::unix::net::UnixStream) -> Result<Self, ChannelError> {
        socket.set_nonblocking(true).map_err(ChannelError::Socket)?;
        let socket = Arc::new(UnixStream::from_std(socket).map_err(ChannelError::Socket)?);
        let (frames, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write_frames(Arc::clone(&socket), waiting));
        let receiver = MachineReceiver { socket, incoming: Incoming::default() };
        Ok(Self { sender: MachineSender { frames }, receiver })
    }
}

impl MachineSender {
    /// Sends one message with its descriptor. May be cancelled: a message goes whole or not at all.
    pub async fn send(&self, message: &ToMachine, descriptor: Option<OwnedFd>) -> Result<(), ChannelError> {
        let frame = frame::encode(message)?;
        self.frames.send((frame, descriptor)).await.map_err(|_| ChannelError::Closed)
    }
}

impl MachineReceiver {
    /// The machine's next message; `None` when its process is gone. May be cancelled without loss.
    pub async fn receive(&mut self) -> Result<Option<FromMachine>, ChannelError> {
        loop {
            self.socket.readable().await.map_err(ChannelError::Socket)?;
            let incoming = &mut self.incoming;
            let socket = &self.socket;
            let mut outcome = None;
            // What `try_io` has to learn is only whether the socket ran dry.
            let dry = socket.try_io(Interest::READABLE, || match incoming.read(socket.as_fd()) {
                Err(ChannelError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                done => {
                    outcome = Some(done);
                    Ok(())
                }
            });
            match (dry, outcome) {
                (_, Some(Ok(message))) => return Ok(message.map(|(message, _descriptor)| message)),
                (_, Some(Err(ChannelError::Socket(error))))
                    if error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Ok(None);
                }
                (_, Some(Err(error))) => return Err(error),
                (Err(error), None) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(ChannelError::Socket(error));
                }
                (_, None) => {}
            }
        }
    }
}

/// The only writer of the socket. Ends when the last sender is gone or the machine no longer reads, and closes the
/// sending direction, so that the machine sees the end even while a receiver still waits.
async fn write_frames(socket: Arc<UnixStream>, mut waiting: mpsc::Receiver<(Vec<u8>, Option<OwnedFd>)>) {
    while let Some((frame, descriptor)) = waiting.recv().await {
        if let Err(error) = write_frame(&socket, &frame, descriptor).await {
            tracing::debug!(%error, "the machine process no longer reads");
            break;
        }
    }
    let _ = rustix::net::shutdown(socket.as_fd(), rustix::net::Shutdown::Write);
}

async fn write_frame(socket: &UnixStream, frame: &[u8], descriptor: Option<OwnedFd>) -> io::Result<()> {
    let mut rest = frame;
    let mut descriptor = descriptor;
    while !rest.is_empty() {
        let attached = descriptor.as_ref().map(AsFd::as_fd);
        let sent =
            socket.async_io(Interest::WRITABLE, || frame::send_some(socket.as_fd(), rest, attached)).await?;
        rest = rest.get(sent..).unwrap_or_default();
        descriptor = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;
    use crate::control::{Channel, Outcome};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn talks_with_the_blocking_end_and_passes_a_descriptor() {
        let (a, b) = StdStream::pair().unwrap();
        let mut supervisor = SupervisorEnd::new(a).unwrap();
        let (machine, mut reader) = Channel::new(b).unwrap();

        let (given, _kept) = StdStream::pair().unwrap();
        let message = ToMachine::Listen { guest_port: 2 };
        supervisor.sender.send(&message, Some(given.into())).await.unwrap();
        let (got, descriptor) = reader.receive::<ToMachine>().unwrap().unwrap();
        assert_eq!(got, message);
        assert!(descriptor.is_some());

        machine.send(&FromMachine::Dial { id: 5, port: 70000 }, None).unwrap();
        machine.send(&FromMachine::Ended(Outcome::Killed), None).unwrap();
        assert_eq!(
            supervisor.receiver.receive().await.unwrap(),
            Some(FromMachine::Dial { id: 5, port: 70000 })
        );
        assert_eq!(supervisor.receiver.receive().await.unwrap(), Some(FromMachine::Ended(Outcome::Killed)));
        drop((machine, reader));
        assert_eq!(supervisor.receiver.receive().await.unwrap(), None);
    }

    #[tokio::test]
    async fn dropping_the_sender_is_the_end_for_the_machine() {
        let (a, b) = StdStream::pair().unwrap();
        let SupervisorEnd { sender, receiver: _waiting } = SupervisorEnd::new(a).unwrap();
        let (_machine, mut reader) = Channel::new(b).unwrap();
        drop(sender);
        let end = tokio::task::spawn_blocking(move || reader.receive::<ToMachine>().unwrap().is_none());
        assert!(end.await.unwrap());
    }
}
