//! What a transport needs of a device.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use virtio_queue::Queue;

use super::RingError;
use crate::memory::Memory;

/// What is to be done after a device has worked: the queues that the driver wants to be interrupted for, and whether the
/// device has to come back without being asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    queues: u64,
    goes_on: bool,
}

impl Signals {
    /// Adds queue `number`, if `due`.
    pub fn add(&mut self, number: u32, due: bool) {
        self.queues |= u64::from(due).wrapping_shl(number);
    }

    /// The device stopped before the end, if so, and has to come back.
    pub fn go_on(&mut self, if_so: bool) {
        self.goes_on |= if_so;
    }

    #[must_use]
    pub fn goes_on(self) -> bool {
        self.goes_on
    }

    #[must_use]
    pub fn has(self, number: u32) -> bool {
        self.queues & 1_u64.wrapping_shl(number) != 0
    }

    #[must_use]
    pub fn any(self) -> bool {
        self.queues != 0
    }
}

/// A virtio device behind whatever transport. All calls come from one thread at a time, and none may wait for anything but
/// as it says.
pub trait Device: Send {
    /// Its kind (virtio 1.3, 5).
    fn id(&self) -> u32;

    /// What it offers, beside what its transport does.
    fn features(&self) -> u64 {
        0
    }

    /// The most entries of each of its queues.
    fn queue_sizes(&self) -> &'static [u16];

    /// Bytes of the configuration space; what is beyond its end stays as it was.
    fn read_config(&self, _offset: usize, _data: &mut [u8]) {}

    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// The driver is up, and has agreed to these features.
    fn activate(&mut self, _features: u64, _now: Instant) {}

    /// The driver is gone. When this returns, nothing that it has asked for touches its memory any more; until then it may
    /// wait.
    fn reset(&mut self) {}

    /// The driver broke a ring. There is nothing to be done until it resets the device.
    fn broke(&mut self) {
        self.reset();
    }

    /// Does what can be done now: the driver has kicked a queue, or the descriptor is readable. Without a driver there are
    /// no queues, and only the host's side can be seen to.
    fn process(&mut self, memory: &Memory, queues: &mut [Queue], now: Instant) -> Result<Signals, RingError>;

    /// Waits until nothing is under way of what the driver has asked for and was taken from a queue, and tells it.
    fn settle(&mut self, _memory: &Memory, _queues: &mut [Queue]) -> Result<Signals, RingError> {
        Ok(Signals::default())
    }

    /// Readable when the host's side has something to do.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Copies what is asked for out of a configuration space.
pub(crate) fn read_space(space: &[u8], offset: usize, data: &mut [u8]) {
    for (to, from) in data.iter_mut().zip(space.iter().skip(offset)) {
        *to = *from;
    }
}
