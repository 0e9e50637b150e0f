//! A driver that keeps its ring right, and watches that the device does.

use std::collections::BTreeMap;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm::memory::Memory;

use crate::memory::{read, write};

pub(crate) const SIZE: u16 = 64;
/// What a ring takes in guest memory.
pub(crate) const ROOM: u64 = 0x1000;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x800;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// A piece of a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    Filled(u64, u32),
    ToFill(u64, u32),
}

#[derive(Debug)]
pub(crate) struct Ring {
    base: u64,
    offered: u16,
    seen: u16,
    last: u16,
    free: Vec<u16>,
    /// The descriptors of each chain that the device has, by its head.
    out: BTreeMap<u16, Vec<u16>>,
}

impl Ring {
    /// A ring at `base`, and the device's side of it.
    pub(crate) fn new(base: u64, event_idx: bool) -> (Self, Queue) {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(base + AVAILABLE)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(base + USED)).unwrap();
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        let free = (0..SIZE).rev().collect();
        (Self { base, offered: 0, seen: 0, last: 0, free, out: BTreeMap::new() }, queue)
    }

    /// Makes a chain available; its head, or `None` where too many are with the device already.
    pub(crate) fn offer(&mut self, memory: &Memory, pieces: &[Piece]) -> Option<u16> {
        if pieces.is_empty() || pieces.len() > self.free.len() {
            return None;
        }
        let numbers = self.free.split_off(self.free.len() - pieces.len());
        for (at, piece) in pieces.iter().enumerate() {
            let (address, length, kind) = match *piece {
                Piece::Filled(address, length) => (address, length, 0),
                Piece::ToFill(address, length) => (address, length, WRITE),
            };
            let (next, more) = numbers.get(at + 1).map_or((0, 0), |next| (*next, NEXT));
            let descriptor = [
                &address.to_le_bytes()[..],
                &length.to_le_bytes(),
                &(kind | more).to_le_bytes(),
                &next.to_le_bytes(),
            ];
            write(memory, self.base + u64::from(numbers[at]) * 16, &descriptor.concat());
        }
        let head = numbers[0];
        self.out.insert(head, numbers);
        self.last = head;
        let slot = AVAILABLE + 4 + u64::from(self.offered % SIZE) * 2;
        write(memory, self.base + slot, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        write(memory, self.base + AVAILABLE + 2, &self.offered.to_le_bytes());
        Some(head)
    }

    /// Chains that came back since the last look, each with the length that it came back with. Asks to be told of the next.
    pub(crate) fn used(&mut self, memory: &Memory) -> Vec<(u16, u32)> {
        let word = |at| u32::from_le_bytes(read(memory, at, 4).try_into().unwrap());
        let count = u16::from_le_bytes(read(memory, self.base + USED + 2, 2).try_into().unwrap());
        let new = count.wrapping_sub(self.seen);
        assert!(usize::from(new) <= self.out.len(), "{new} chains came back of {}", self.out.len());
        let mut used = Vec::new();
        while self.seen != count {
            let element = self.base + USED + 4 + u64::from(self.seen % SIZE) * 8;
            let head = u16::try_from(word(element)).unwrap();
            let numbers = self.out.remove(&head).expect("a chain came back that the device did not have");
            self.free.extend(numbers);
            used.push((head, word(element + 4)));
            self.seen = self.seen.wrapping_add(1);
        }
        write(memory, self.base + AVAILABLE + 4 + u64::from(SIZE) * 2, &self.seen.to_le_bytes());
        used
    }

    /// The head of the chain that was offered last.
    pub(crate) fn last(&self) -> u16 {
        self.last
    }

    /// Chains that the device has.
    pub(crate) fn outstanding(&self) -> usize {
        self.out.len()
    }
}
