//! The walk along a virtqueue (virtio 1.3, 2.7): any rings, any descriptors.
//!
//! Input: size of the queue (a power of two), flags (1: event indexes), where its three rings are (0: where the image has
//! them), the device's position; then an image of guest memory from 0x1000 on: 64 descriptors, from 0x1400 the available
//! ring, from 0x1600 the used ring, and whatever descriptors lead to.

use std::io::{Read, Write};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm::fuzzing;
use vmm::memory::Memory;

use crate::input::Input;
use crate::memory;

/// Two ranges that touch, and one behind a hole.
const RANGES: [std::ops::Range<u64>; 3] = [0..0x3000, 0x3000..TOUCHING, 0x8000..0x9000];
const TOUCHING: u64 = 0x5000;
const IMAGE: u64 = 0x1000;
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x1400;
const USED: u64 = 0x1600;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let size = 1 << (input.byte() % 7);
    let flags = input.byte();
    let mut place = |usual| Some(input.number()).filter(|place| *place != 0).unwrap_or(usual);
    let (table, available, used) = (place(TABLE), place(AVAILABLE), place(USED));
    let position = input.short();
    let memory = memory::of(&RANGES);
    memory::write(&memory, IMAGE, input.bytes(0x2000));

    let mut queue = Queue::new(64).unwrap();
    queue.set_size(size);
    let is_set = queue.try_set_desc_table_address(GuestAddress(table)).is_ok()
        && queue.try_set_avail_ring_address(GuestAddress(available)).is_ok()
        && queue.try_set_used_ring_address(GuestAddress(used)).is_ok();
    queue.set_event_idx(flags & 1 != 0);
    queue.set_next_avail(position);
    queue.set_next_used(position);
    queue.set_ready(true);
    if !is_set || !queue.is_valid(&memory) {
        // No transport lets a device see it; all the same it does no harm.
        let _ = fuzzing::next_chain(&mut queue, &memory);
        return;
    }
    let mut left = size;
    loop {
        // What came before may have overwritten the rings.
        let expected = Expected::next(&memory, &queue);
        let Ok(chain) = fuzzing::next_chain(&mut queue, &memory) else {
            assert!(matches!(expected, Expected::Broken), "a ring that is right is refused");
            return;
        };
        let (Some(mut chain), Expected::Chain(head, pieces)) = (chain, &expected) else {
            assert!(matches!(expected, Expected::Nothing), "{expected:?} is expected");
            return;
        };
        let is_last = left == 0;
        left = left.saturating_sub(1);
        assert_eq!(chain.head, *head);
        let written = hold_against(&memory, &mut chain, pieces);
        if chain.head >= size {
            // Only a ring that is wrong has it.
            assert!(fuzzing::give_back(&mut queue, &memory, &[(chain.head, 0)]).is_err());
            return;
        }
        let place = used + 4 + u64::from(queue.next_used() % size) * 8;
        let chains = [(chain.head, written), (chain.head, 1)];
        let twice = flags & 2 != 0 && size > 1;
        fuzzing::give_back(&mut queue, &memory, &chains[..1 + usize::from(twice)]).unwrap();
        // The ring's index lies behind neither of its elements.
        let count = u16::from_le_bytes(memory::read(&memory, used + 2, 2).try_into().unwrap());
        assert_eq!(count, queue.next_used());
        let element = [u32::from(chain.head).to_le_bytes(), written.to_le_bytes()].concat();
        assert_eq!(memory::read(&memory, place, 8), element);
        // A guest that gives the same buffers again and again has to be left at some time.
        if is_last {
            return;
        }
    }
}

#[derive(Debug)]
enum Expected {
    Nothing,
    Broken,
    /// Its head, and its pieces in order: where, how long, and whether they are to be filled. None of a wrong chain.
    Chain(u16, Vec<(u64, u32, bool)>),
}

impl Expected {
    /// As the specification has it, without a thought of speed.
    fn next(memory: &Memory, queue: &Queue) -> Self {
        let short = |at| memory.read_obj::<u16>(GuestAddress(at)).ok();
        let Some(index) = short(queue.avail_ring() + 2) else { return Self::Broken };
        match index.wrapping_sub(queue.next_avail()) {
            0 => return Self::Nothing,
            more if more > queue.size() => return Self::Broken,
            _ => {}
        }
        let slot = u64::from(queue.next_avail() % queue.size());
        let Some(head) = short(queue.avail_ring() + 4 + 2 * slot) else { return Self::Broken };
        Self::Chain(head, pieces(memory, queue, head).unwrap_or_default())
    }
}

fn pieces(memory: &Memory, queue: &Queue, head: u16) -> Option<Vec<(u64, u32, bool)>> {
    let mut pieces: Vec<(u64, u32, bool)> = Vec::new();
    let (mut table, mut entries, mut next) = (queue.desc_table(), u32::from(queue.size()), head);
    let mut is_indirect = false;
    loop {
        if u32::from(next) >= entries || pieces.len() >= usize::from(queue.size()) {
            return None;
        }
        let mut bytes = [0; 16];
        let at = table.checked_add(16 * u64::from(next))?;
        memory.read_slice(&mut bytes, GuestAddress(at)).ok()?;
        let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let flags = u16::from_le_bytes([bytes[12], bytes[13]]);
        if flags & INDIRECT != 0 {
            if is_indirect || !length.is_multiple_of(16) || length / 16 > 0xffff {
                return None;
            }
            (is_indirect, table, entries, next) = (true, address, length / 16, 0);
            continue;
        }
        let is_write = flags & WRITE != 0;
        // One of no bytes has no place in any order.
        let reads_after_writes = !is_write && pieces.iter().any(|(_, length, write)| *write && *length > 0);
        if reads_after_writes || !is_there(address, length) {
            return None;
        }
        pieces.push((address, length, is_write));
        if flags & NEXT == 0 {
            let all: u64 = pieces.iter().map(|(_, length, _)| u64::from(*length)).sum();
            return (all <= u64::from(u32::MAX)).then_some(pieces);
        }
        next = u16::from_le_bytes([bytes[14], bytes[15]]);
    }
}

/// Whether the guest has all of these bytes.
fn is_there(address: u64, length: u32) -> bool {
    // The first two ranges are one.
    let whole = [0..TOUCHING, RANGES[2].clone()];
    length == 0
        || whole.iter().any(|range| range.contains(&address) && u64::from(length) <= range.end - address)
}

/// So much of a chain is looked at.
const MOST: usize = 0x900;

/// Reads and writes the chain's buffers, each in pieces of its own lengths; returns the number of bytes written.
fn hold_against(memory: &Memory, chain: &mut fuzzing::Chain<'_>, pieces: &[(u64, u32, bool)]) -> u32 {
    let of_kind = |write| pieces.iter().filter(move |piece| piece.2 == write);
    let total = |write| of_kind(write).map(|piece| piece.1 as usize).sum();
    let (to_read, to_write): (usize, usize) = (total(false), total(true));
    assert_eq!((chain.readable.available(), chain.writable.available()), (to_read, to_write));

    let mut expected = Vec::new();
    for (address, length, _) in of_kind(false) {
        let length = (*length as usize).min(MOST - expected.len());
        expected.extend(memory::read(memory, *address, length));
    }
    let mut read = vec![0; to_read.min(MOST)];
    let (first, second) = read.split_at_mut(to_read.min(MOST) / 3);
    chain.readable.read_exact(first).unwrap();
    chain.readable.read_exact(second).unwrap();
    assert!(expected == read);
    assert_eq!(chain.readable.done() + chain.readable.available(), to_read);

    // What is written lies in the buffers in their order, and changes nothing else.
    let mut model = whole(memory);
    let count = to_write.min(MOST);
    let bytes: Vec<u8> = (0..count).map(|at| (at % 251) as u8).collect();
    let (first, second) = bytes.split_at(count / 4);
    chain.writable.write_all(first).unwrap();
    chain.writable.write_all(second).unwrap();
    assert_eq!(chain.writable.rest(usize::MAX).iter().sum::<usize>(), to_write - count);
    let mut at = 0;
    for (address, length, _) in of_kind(true) {
        let end = (at + *length as usize).min(count);
        if at < end {
            let place = model_index(*address);
            model[place..place + (end - at)].copy_from_slice(&bytes[at..end]);
        }
        at = end;
        if at == count {
            break;
        }
    }
    assert!(whole(memory) == model, "something else was written");
    assert_eq!(chain.writable.done(), count);
    count as u32
}

fn whole(memory: &Memory) -> Vec<u8> {
    let parts = RANGES.map(|range| memory::read(memory, range.start, (range.end - range.start) as usize));
    parts.concat()
}

fn model_index(address: u64) -> usize {
    if address < TOUCHING { address as usize } else { (address - (RANGES[2].start - TOUCHING)) as usize }
}
