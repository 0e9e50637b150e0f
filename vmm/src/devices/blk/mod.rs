//! The block device (virtio 1.3, 5.2): a raw file as a disk.
//!
//! - [`request`]: what the driver wants, checked against the disk's size; pure.
//! - [`flight`]: a request under way, as steps; pure.
//! - [`queues`]: the queue, generic over memory and over what carries steps out.
//! - [`disk`]: the file, with its lock; it has steps carried out by the kernel's queue ([`platform::ring`]), or
//!   where there is none by [`now`].
//!
//! [`platform::ring`]: crate::platform::ring

mod disk;
mod flight;
mod now;
mod queues;
mod request;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::Queue;

pub use disk::{Disk, DiskError};
use queues::{Flights, Storage};
use request::{MOST_RANGES, MOST_SECTORS, SECTOR};

use super::{Device, RingError, Signals, read_space};
use crate::memory::Memory;

const QUEUE_SIZE: u16 = 256;
/// Segments of a request beside its header and its status.
const SEGMENTS: u32 = 254;

/// A disk of the guest's.
#[derive(Debug)]
pub struct Blk {
    disk: Disk,
    flights: Flights,
}

impl Blk {
    /// `trouble` is told, as a sentence, when the host has no room for what the guest writes; the guest's own request
    /// fails all the same.
    pub fn new(mut disk: Disk, trouble: impl Fn(String) + Send + 'static) -> Self {
        disk.tell_of_trouble(trouble);
        Self { disk, flights: Flights::default() }
    }

    /// `struct virtio_blk_config` (5.2.4).
    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let mut put = |offset: usize, bytes: &[u8]| {
            for (to, from) in config.iter_mut().skip(offset).zip(bytes) {
                *to = *from;
            }
        };
        put(0, &self.disk.sectors().to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &u32::try_from(SECTOR).unwrap_or(512).to_le_bytes());
        // Of a discard, and of zeroes.
        for (sectors, ranges) in [(36, 40), (48, 52)] {
            put(sectors, &MOST_SECTORS.to_le_bytes());
            put(ranges, &MOST_RANGES.to_le_bytes());
        }
        // Discards of whole pages of the host make holes.
        put(44, &8_u32.to_le_bytes());
        // Zeroes may be written as holes.
        put(56, &[1]);
        config
    }
}

impl Device for Blk {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let bit = |number: u32| 1_u64.wrapping_shl(number);
        let always = bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_FLUSH);
        if self.disk.is_read_only() {
            always | bit(VIRTIO_BLK_F_RO)
        } else {
            always | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)
        }
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_space(&self.config(), offset, data);
    }

    fn reset(&mut self) {
        self.flights.clear();
        self.disk.forsake();
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [Queue],
        _now: Instant,
    ) -> Result<Signals, RingError> {
        let mut signals = Signals::default();
        if let [queue] = queues {
            let pass = queues::serve(&mut self.flights, queue, memory, &mut self.disk)?;
            signals.add(0, pass.signal);
            signals.go_on(pass.goes_on);
        }
        Ok(signals)
    }

    fn settle(&mut self, memory: &Memory, queues: &mut [Queue]) -> Result<Signals, RingError> {
        let mut signals = Signals::default();
        if let [queue] = queues {
            signals.add(0, queues::settle(&mut self.flights, queue, memory, &mut self.disk)?);
        }
        Ok(signals)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.disk.descriptor()
    }
}
