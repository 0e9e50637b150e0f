//! Orders to the device from other threads, and its questions to its owner.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use crate::platform::Wake;

/// The guest wants a port of the host. Answer with [`Handle::dialed`] or [`Handle::refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    pub id: u64,
    pub port: u32,
}

/// Takes the device's questions.
pub(super) struct Owner(Box<dyn FnMut(Dial) + Send>);

impl Owner {
    pub(super) fn new(ask: impl FnMut(Dial) + Send + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(super) fn ask(&mut self, dial: Dial) {
        (self.0)(dial);
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

#[derive(Debug)]
pub(super) enum Order {
    Listen { guest_port: u32, listener: OwnedFd },
    Unlisten { guest_port: u32 },
    Connect { guest_port: u32, preamble: Vec<u8>, stream: OwnedFd },
    Dialed { id: u64, stream: OwnedFd },
    Refused { id: u64 },
}

/// Gives orders to a device that another thread drives. Never blocks; an order to a device that is gone is dropped,
/// and its descriptor closed.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    wake: Arc<Wake>,
}

impl Handle {
    pub(super) fn new(wake: Arc<Wake>) -> (Self, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel();
        (Self { orders, wake }, waiting)
    }

    /// Accepts on `listener`, and joins each connection to `guest_port`.
    pub fn listen(&self, guest_port: u32, listener: OwnedFd) {
        self.give(Order::Listen { guest_port, listener });
    }

    /// Closes the listeners of `guest_port`. Connections that stand go on.
    pub fn unlisten(&self, guest_port: u32) {
        self.give(Order::Unlisten { guest_port });
    }

    /// Joins `stream` to `guest_port`; the guest gets `preamble` first.
    pub fn connect(&self, guest_port: u32, preamble: Vec<u8>, stream: OwnedFd) {
        self.give(Order::Connect { guest_port, preamble, stream });
    }

    /// Here is the stream for [`Dial::id`].
    pub fn dialed(&self, id: u64, stream: OwnedFd) {
        self.give(Order::Dialed { id, stream });
    }

    /// The guest may not have what it wanted with [`Dial::id`].
    pub fn refused(&self, id: u64) {
        self.give(Order::Refused { id });
    }

    fn give(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.wake.wake();
        }
    }
}
