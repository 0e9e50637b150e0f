//! The network card (virtio 1.3, 5.1): its wire is a stream socket to the network process.
//!
//! - [`header`]: what the driver says of a frame, and we of one; [`checksum`]: what it leaves to us; both pure.
//! - [`wire`]: frames on the socket.
//! - [`queues`]: the queues, generic over memory.
//!
//! Segments that the guest leaves uncut go out as one frame: the network process ends every connection itself, so that
//! nothing would be gained by cutting them.

mod checksum;
mod header;
mod queues;
mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_queue::Queue;

use self::header::Agreed;
use self::queues::Trouble;
use self::wire::{Incoming, Outgoing, WireError};
use super::{Device, RingError, Signals, read_space};
use crate::memory::Memory;
use crate::platform::{Event, Interest, Poller};

// The queues (5.1.2).
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;

/// How often both directions have their turn before the thread looks whether it is to stop.
const PASSES: u32 = 16;

/// Locally administered; one guest is alone on its wire.
const MAC: [u8; 6] = [0x02, 0x6d, 0x76, 0x6d, 0x00, 0x01];
/// The longest packet: what an IPv4 header can say, in whole words.
const MTU: u16 = 65520;

/// The card.
#[derive(Debug)]
pub struct Net {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: Outgoing,
    agreed: Agreed,
    /// The network process is there. Without it the card is one whose cable is pulled.
    is_connected: bool,
    poller: Poller,
    watched: Interest,
    events: Vec<Event>,
}

impl Net {
    /// The socket is one end of a stream; the other is the network process's.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let poller = Poller::new()?;
        let watched = Interest::default();
        poller.add(&socket, 0, watched)?;
        Ok(Self {
            socket,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            agreed: Agreed::default(),
            is_connected: true,
            poller,
            watched,
            events: Vec::new(),
        })
    }

    /// `struct virtio_net_config` (5.1.4): address, status, pairs of queues, MTU.
    fn config() -> [u8; 12] {
        let mut config = [0; 12];
        let known = MAC.into_iter().chain([0; 4]).chain(MTU.to_le_bytes());
        for (to, from) in config.iter_mut().zip(known) {
            *to = from;
        }
        config
    }

    /// Both directions, until there is nothing more to do in either now, or for long enough. What the driver is to be told is
    /// added to `signals`, however it ends.
    fn exchange(
        &mut self,
        memory: &Memory,
        receive: &mut Queue,
        transmit: &mut Queue,
        signals: &mut Signals,
    ) -> Result<Interest, Trouble> {
        let mut passes = 0_u32;
        loop {
            if self.is_connected {
                self.incoming.fill(&self.socket)?;
            }
            let sent = queues::transmit(transmit, memory, &mut self.outgoing, self.agreed)?;
            signals.add(TRANSMIT, sent.signal);
            let was_full = !self.outgoing.has_room();
            self.flush()?;
            let received = queues::receive(receive, memory, &mut self.incoming, self.agreed)?;
            signals.add(RECEIVE, received.signal);
            let has_room_again = was_full && self.outgoing.has_room();
            let goes_on = sent.goes_on || received.goes_on || has_room_again;
            passes = passes.saturating_add(1);
            if !goes_on || passes >= PASSES {
                signals.go_on(goes_on);
                return Ok(Interest { read: !received.waits_for_driver, write: self.outgoing.waits() });
            }
        }
    }

    fn flush(&mut self) -> Result<(), WireError> {
        if self.is_connected {
            return self.outgoing.flush(&self.socket);
        }
        self.outgoing.clear();
        Ok(())
    }

    fn disconnect(&mut self, why: &WireError) {
        self.is_connected = false;
        self.incoming = Incoming::default();
        tracing::warn!(error = why as &dyn std::error::Error, "the guest has no network any more");
    }

    fn watch(&mut self, wanted: Interest) {
        let _ = self.poller.poll(&mut self.events);
        let interest = if self.is_connected { wanted } else { Interest::default() };
        // To ask anew is to be told anew, as of a network process that is gone.
        if interest == self.watched {
            return;
        }
        self.watched = interest;
        if let Err(error) = self.poller.modify(&self.socket, 0, interest) {
            tracing::error!(%error, "the network card cannot wait for its socket");
        }
    }
}

impl Device for Net {
    fn id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        [
            VIRTIO_NET_F_MAC,
            VIRTIO_NET_F_MTU,
            VIRTIO_NET_F_CSUM,
            VIRTIO_NET_F_GUEST_CSUM,
            VIRTIO_NET_F_HOST_TSO4,
            VIRTIO_NET_F_HOST_TSO6,
            VIRTIO_NET_F_MRG_RXBUF,
        ]
        .into_iter()
        .fold(0, |bits, bit| bits | 1_u64.wrapping_shl(bit))
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_space(&Self::config(), offset, data);
    }

    fn activate(&mut self, features: u64, _now: Instant) {
        self.agreed = Agreed::from_features(features);
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [Queue],
        _now: Instant,
    ) -> Result<Signals, RingError> {
        let [receive, transmit] = queues else {
            // Without a driver nothing is read: the network process keeps it.
            self.watch(Interest::default());
            return Ok(Signals::default());
        };
        let mut signals = Signals::default();
        loop {
            match self.exchange(memory, receive, transmit, &mut signals) {
                Ok(interest) => {
                    self.watch(interest);
                    return Ok(signals);
                }
                Err(Trouble::Ring(error)) => return Err(error),
                Err(Trouble::Wire(error)) => self.disconnect(&error),
            }
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use virtio_queue::QueueT;

    use super::*;
    use crate::devices::testing::{Buffer, Driver};

    #[test]
    fn queues_that_were_not_set_up_hold_nothing_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut card = Net::new(ours.into()).unwrap();
        std::io::Write::write_all(&mut theirs, &[&60_u32.to_be_bytes()[..], &[1; 60]].concat()).unwrap();
        let memory = crate::memory::of_size(1 << 20);
        crate::memory::write(&memory, 0, &[3; 0x100]).unwrap();
        let mut queues = [Queue::new(16).unwrap(), Queue::new(16).unwrap()];
        assert_eq!(card.process(&memory, &mut queues, Instant::now()).unwrap(), Signals::default());
        assert!(card.is_connected, "the frame waits");
    }

    #[test]
    fn a_driver_is_told_of_used_buffers_even_when_the_cable_is_pulled() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut card = Net::new(ours.into()).unwrap();
        // Nobody reads any more, but somebody may still write: sending fails, and what is read is not at its end.
        theirs.shutdown(std::net::Shutdown::Read).unwrap();
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(&[0; 12]), Buffer::Filled(&[7; 60])]);
        let mut queues = [Queue::default(), driver.queue];
        let signals = card.process(&driver.memory, &mut queues, Instant::now()).unwrap();
        assert!(!card.is_connected);
        assert!(signals.has(TRANSMIT), "its buffer came back");
    }
}
