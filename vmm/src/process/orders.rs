//! The supervisor's orders, and what it is told, whatever engine runs the machine.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::ProcessError;
use crate::control::{Channel, ChannelError, ChannelReader, FromMachine, MachineConfig, Outcome, ToMachine};
use crate::devices::vsock::Handle;
use crate::platform::sandbox::{Class, Confinement};

/// What comes from the supervisor.
#[derive(Debug)]
pub(super) enum Order {
    Do(ToMachine, Option<OwnedFd>),
    /// It closed its end, or broke the protocol.
    Gone,
}

/// The supervisor, as the machine's process sees it.
#[derive(Debug)]
pub(super) struct Supervisor {
    channel: Channel,
    reader: Option<ChannelReader>,
    listening: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(super) fn new((channel, reader): (Channel, ChannelReader)) -> Self {
        Self { channel, reader: Some(reader), listening: None }
    }

    /// The first order of all, with the stream to the network process.
    pub(super) fn start(&mut self) -> Result<(MachineConfig, Option<OwnedFd>), ProcessError> {
        match self.reader.as_mut().map(ChannelReader::receive).transpose()?.flatten() {
            Some((ToMachine::Start(config), network)) => Ok((config, network)),
            _ => Err(ProcessError::NoStart),
        }
    }

    /// From now on a thread makes an event of each order.
    pub(super) fn listen<E: Send + 'static>(
        &mut self,
        confinement: Confinement,
        events: &mpsc::Sender<E>,
        event: fn(Order) -> E,
    ) -> io::Result<()> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let events = events.clone();
        let listening = crate::thread::named("orders").spawn(move || {
            match confinement.confine(Class::Channel) {
                Ok(()) => read_orders(reader, |order| events.send(event(order)).is_ok()),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "orders cannot be read");
                }
            }
            let _ = events.send(event(Order::Gone));
        })?;
        self.listening = Some(listening);
        Ok(())
    }

    pub(super) fn tell(&self, news: &FromMachine) -> Result<(), ChannelError> {
        self.channel.send(news, None)
    }

    /// The last message.
    pub(super) fn say_how_it_ended(self, outcome: &Outcome) {
        // The supervisor may be gone; then nobody is left to be told.
        if let Err(error) = self.tell(&FromMachine::Ended(outcome.clone())) {
            tracing::debug!(%error, "nobody hears of the machine's end");
        }
        self.channel.close();
        if let Some(listening) = self.listening {
            let _ = listening.join();
        }
    }
}

/// Until `take` wants no more, or the supervisor is gone.
fn read_orders(mut reader: ChannelReader, take: impl Fn(Order) -> bool) {
    loop {
        match reader.receive() {
            Ok(Some((order, descriptor))) => {
                if !take(Order::Do(order, descriptor)) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the supervisor cannot be understood"
                );
                return;
            }
        }
    }
}

/// Passes on what concerns the vsock device.
pub(super) fn obey(handle: &Handle, order: ToMachine, descriptor: Option<OwnedFd>) {
    match (order, descriptor) {
        (ToMachine::Listen { guest_port }, Some(listener)) => handle.listen(guest_port, listener),
        (ToMachine::Connect { guest_port, preamble }, Some(stream)) => {
            handle.connect(guest_port, preamble, stream);
        }
        (ToMachine::Dialed { id }, Some(stream)) => handle.dialed(id, stream),
        (ToMachine::Dialed { id } | ToMachine::Refused { id }, _) => handle.refused(id),
        (ToMachine::Unlisten { guest_port }, _) => handle.unlisten(guest_port),
        (order, _) => tracing::warn!(?order, "an order that makes no sense now, or lacks its descriptor"),
    }
}
