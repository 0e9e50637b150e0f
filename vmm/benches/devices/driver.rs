//! A driver of a device: its queues in guest memory, and what is offered and comes back.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::{Device, Signals};
use vmm::memory::{self, Memory};

use crate::host::Host;

pub(crate) const MIB: u64 = 1 << 20;
/// What a device and its driver pass each other lies from here on.
pub(crate) const BUFFERS: u64 = 2 * MIB;

/// Where a queue begins, and what it consists of, one behind the other.
const QUEUES: u64 = 0x1_0000;
const APART: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A part of a chain, in guest memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffer {
    address: u64,
    length: u32,
    flags: u16,
}

impl Buffer {
    pub(crate) fn filled(address: u64, length: u32) -> Self {
        Self { address, length, flags: 0 }
    }

    pub(crate) fn to_fill(address: u64, length: u32) -> Self {
        Self { address, length, flags: WRITE }
    }
}

/// A chain that came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) place: u16,
    /// What the device has filled, in bytes.
    pub(crate) length: u32,
}

/// Drives all queues of a device. A chain is known by its place, which is one of [`Driver::places`] of its queue.
pub(crate) struct Driver<D> {
    pub(crate) device: D,
    pub(crate) memory: Memory,
    queues: Vec<Queue>,
    rings: Vec<Ring>,
    /// The most buffers of a chain.
    longest: u16,
}

/// The driver's side of a queue.
struct Ring {
    base: u64,
    size: u16,
    offered: u16,
    seen: u16,
}

impl<D: Device> Driver<D> {
    /// A driver that is up, with `room` bytes for its buffers. Chains have at most `longest` of them.
    pub(crate) fn new(mut device: D, longest: u16, room: u64) -> Result<Self> {
        let end = (BUFFERS + room).next_multiple_of(MIB);
        let memory = memory::allocate(std::slice::from_ref(&(0..end)))?;
        let (mut queues, mut rings) = (Vec::new(), Vec::new());
        for (number, &size) in (0..).zip(device.queue_sizes()) {
            let base = QUEUES + number * APART;
            let mut queue = Queue::new(size)?;
            queue.try_set_desc_table_address(GuestAddress(base))?;
            queue.try_set_avail_ring_address(GuestAddress(base + AVAILABLE))?;
            queue.try_set_used_ring_address(GuestAddress(base + USED))?;
            queue.set_ready(true);
            queues.push(queue);
            rings.push(Ring { base, size, offered: 0, seen: 0 });
        }
        device.activate(device.features(), Instant::now());
        let driver = Self { device, memory, queues, rings, longest };
        driver.touch()?;
        Ok(driver)
    }

    /// Fills all buffers: their pages come from the host now, and not while something is measured.
    pub(crate) fn touch(&self) -> Result<()> {
        let ones = vec![1; usize::try_from(MIB)?];
        let regions = memory::regions(&self.memory);
        let end = regions.iter().map(|(start, region)| start + region.len() as u64).max().unwrap_or(0);
        for start in (BUFFERS..end).step_by(ones.len()) {
            self.memory.write_slice(&ones, GuestAddress(start))?;
        }
        Ok(())
    }

    /// How many chains of a queue may be under way.
    pub(crate) fn places(&self, queue: usize) -> u16 {
        self.rings[queue].size / self.longest
    }

    /// Makes a chain available.
    pub(crate) fn offer(&mut self, queue: usize, place: u16, chain: &[Buffer]) -> Result<()> {
        let ring = &mut self.rings[queue];
        let head = place * self.longest;
        for (at, buffer) in (head..).zip(chain) {
            let is_last = usize::from(at - head) + 1 == chain.len();
            let flags = buffer.flags | if is_last { 0 } else { NEXT };
            let parts = u128::from(buffer.address)
                | u128::from(buffer.length) << 64
                | u128::from(flags) << 96
                | u128::from(at + 1) << 112;
            self.memory.write_slice(&parts.to_le_bytes(), GuestAddress(ring.base + u64::from(at) * 16))?;
        }
        let available = ring.base + AVAILABLE;
        let entry = available + 4 + u64::from(ring.offered % ring.size) * 2;
        self.memory.write_obj(head, GuestAddress(entry))?;
        ring.offered = ring.offered.wrapping_add(1);
        Ok(self.memory.write_obj(ring.offered, GuestAddress(available + 2))?)
    }

    /// The next chain that has come back.
    pub(crate) fn used(&mut self, queue: usize) -> Result<Option<Used>> {
        let ring = &mut self.rings[queue];
        let used = ring.base + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(used + 2))?;
        if ring.seen == index {
            return Ok(None);
        }
        let entry = used + 4 + u64::from(ring.seen % ring.size) * 8;
        let [head, length]: [u32; 2] = self.memory.read_obj(GuestAddress(entry))?;
        ring.seen = ring.seen.wrapping_add(1);
        Ok(Some(Used { place: u16::try_from(head)? / self.longest, length }))
    }

    /// Has the device do what it can do now.
    pub(crate) fn process(&mut self) -> Result<Signals> {
        Ok(self.device.process(&self.memory, &mut self.queues, Instant::now())?)
    }

    /// The same for a chain that is offered again at once. What is in it stays until the device works.
    pub(crate) fn used_again<const N: usize>(
        &mut self,
        queue: usize,
        chain: impl Fn(u16) -> [Buffer; N],
    ) -> Result<Option<Used>> {
        let used = self.used(queue)?;
        if let Some(Used { place, .. }) = used {
            self.offer(queue, place, &chain(place))?;
        }
        Ok(used)
    }

    /// Waits until the host's side of the device has something to do.
    pub(crate) fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    fn wait_for(&self, most: Option<Timespec>) -> Result<()> {
        let descriptor = self.device.descriptor().context("nothing is under way")?;
        poll(&mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)], most.as_ref())?;
        Ok(())
    }

    /// Goes on until the other end has what the device holds for it; how much that end has moved.
    pub(crate) fn finish(&mut self, host: Host) -> Result<u64> {
        while !host.is_done() {
            self.process()?;
            self.wait_for(Some(Timespec { tv_sec: 0, tv_nsec: 100_000 }))?;
        }
        host.moved()
    }

    /// Has `count` chains served, with up to `depth` of them under way; `chain` has the buffers of a place.
    pub(crate) fn serve<const N: usize>(
        &mut self,
        queue: usize,
        (count, depth): (u64, u16),
        chain: impl Fn(u16) -> [Buffer; N],
    ) -> Result<()> {
        ensure!(depth <= self.places(queue), "the queue has no room for {depth} chains");
        let (mut offered, mut done) = (0, 0);
        for place in (0..depth).take(usize::try_from(count)?) {
            self.offer(queue, place, &chain(place))?;
            offered += 1;
        }
        while done < count {
            let goes_on = self.process()?.goes_on();
            let before = done;
            while let Some(Used { place, .. }) = self.used(queue)? {
                done += 1;
                if offered < count {
                    self.offer(queue, place, &chain(place))?;
                    offered += 1;
                }
            }
            if done == before && !goes_on {
                self.wait()?;
            }
        }
        Ok(())
    }
}
