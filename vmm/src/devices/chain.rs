//! A descriptor chain, checked once, at the edge (virtio 1.3, 2.7.4 and 2.7.5).
//!
//! What is wrong with one chain costs that chain: it has nothing in it, neither to read nor to write. What is wrong with
//! a ring is an error, because from then on nothing in it can be believed.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

use crate::memory::Span;

// The used ring (2.7.8): flags and index, then elements.
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;

/// A ring that can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("the guest broke a ring")]
    Broken(#[from] virtio_queue::Error),
    #[error("a ring of the guest has entries outside its memory")]
    Unreadable,
    #[error("the guest set up a ring that lies outside its memory, or crookedly")]
    Invalid,
    #[error("the guest offered a chain once more before it had it back")]
    Twice,
}

/// The buffers of a chain. They are the guest's, who may change what is in them at any time, but no longer where they
/// are.
#[derive(Debug)]
pub(crate) struct Chain<'m, B> {
    pub(crate) head: u16,
    /// What the driver has filled.
    pub(crate) readable: Buffers<'m, B>,
    /// What the device is to fill.
    pub(crate) writable: Buffers<'m, B>,
}

/// Pieces of guest memory, read or written from the front on.
#[derive(Debug)]
pub(crate) struct Buffers<'m, B> {
    pieces: Vec<Piece<'m, B>>,
    /// The piece that is next, and how much of it is done.
    piece: usize,
    offset: usize,
    done: usize,
}

/// A part of a buffer that lies in one region.
#[derive(Debug)]
struct Piece<'m, B> {
    address: GuestAddress,
    slice: VolatileSlice<'m, B>,
}

/// Chains of one queue, and looks for more of them, before others have their turn. A driver may make more available for as
/// long as it likes, and rings that lie over each other may do so without one: whoever works has to hear that it is to stop.
pub(crate) const CHAINS: usize = 1024;

/// What a pass over a queue came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The driver wants to be told of used buffers.
    pub(crate) signal: bool,
    /// Stopped before the end.
    pub(crate) goes_on: bool,
}

/// Asks to be told of the next chain, after there was none; whether there is one by now.
pub(crate) fn await_more<M: GuestMemory>(queue: &mut Queue, memory: &M) -> Result<bool, RingError> {
    Ok(queue.ready() && queue.enable_notification(memory)?)
}

/// Has `one` serve the chains that wait, each of which it returns the bytes of that were written for the driver.
pub(crate) fn serve<'m, M: GuestMemory>(
    queue: &mut Queue,
    memory: &'m M,
    mut one: impl FnMut(&mut Chain<'m, BS<'m, M::Bitmap>>) -> u32,
) -> Result<Pass, RingError> {
    // What the driver did not set up lies nowhere: its memory is not to be touched.
    if !queue.ready() {
        return Ok(Pass::default());
    }
    let (mut looks, mut any) = (0_usize, false);
    loop {
        queue.disable_notification(memory)?;
        while looks < CHAINS {
            looks = looks.saturating_add(1);
            let Some(mut chain) = next(queue, memory)? else { break };
            let written = one(&mut chain);
            queue.add_used(memory, chain.head, written)?;
            any = true;
        }
        if looks >= CHAINS || !await_more(queue, memory)? {
            break;
        }
    }
    let signal = any && queue.needs_notification(memory)?;
    Ok(Pass { signal, goes_on: looks >= CHAINS })
}

/// The next chain that the driver has made available.
pub(crate) fn next<'m, M: GuestMemory>(
    queue: &mut Queue,
    memory: &'m M,
) -> Result<Option<Chain<'m, BS<'m, M::Bitmap>>>, RingError> {
    // A driver need not set up what it does not use.
    if !queue.ready() {
        return Ok(None);
    }
    let is_there = queue.avail_idx(memory, Ordering::Acquire)?.0 != queue.next_avail();
    let Some(descriptors) = queue.iter(memory)?.next() else {
        return if is_there { Err(RingError::Unreadable) } else { Ok(None) };
    };
    let head = descriptors.head_index();
    let longest = usize::from(queue.size());
    let (readable, writable) = resolve(memory, descriptors, longest).unwrap_or_default();
    Ok(Some(Chain { head, readable: Buffers::new(readable), writable: Buffers::new(writable) }))
}

/// Gives chains back, each with the bytes that were written into it, so that the driver sees all of them or none.
/// [`QueueT::needs_notification`] then knows of the last of them alone.
pub(crate) fn give_back<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    chains: &[(u16, u32)],
) -> Result<(), RingError> {
    let Some((&(head, written), before)) = chains.split_last() else { return Ok(()) };
    for &(head, written) in before {
        // Like the queue's own, but for the index, which is what shows an entry to the driver (2.7.8).
        let place = u64::from(queue.next_used().checked_rem(queue.size()).unwrap_or(0));
        let offset = place.wrapping_mul(USED_ELEMENT).saturating_add(USED_HEADER);
        let address = queue.used_ring().checked_add(offset).ok_or(RingError::Unreadable)?;
        let [[a, b, c, d], [e, f, g, h]] = [u32::from(head).to_le_bytes(), written.to_le_bytes()];
        memory
            .write_slice(&[a, b, c, d, e, f, g, h], GuestAddress(address))
            .map_err(|_| RingError::Unreadable)?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    Ok(queue.add_used(memory, head, written)?)
}

/// Pieces to read, and pieces to write.
type Pieces<'m, B> = (Vec<Piece<'m, B>>, Vec<Piece<'m, B>>);

/// The memory that the descriptors name; `None` when they break a rule.
fn resolve<'m, M: GuestMemory>(
    memory: &'m M,
    descriptors: DescriptorChain<&M>,
    longest: usize,
) -> Option<Pieces<'m, BS<'m, M::Bitmap>>> {
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    let mut last: Option<Descriptor> = None;
    for (number, descriptor) in descriptors.enumerate() {
        let reads_after_writes = !writable.is_empty() && !descriptor.is_write_only();
        // A table of its own may be longer than the ring, a chain may not (2.7.5.3.1).
        if number >= longest || reads_after_writes {
            return None;
        }
        let (pieces, access) = if descriptor.is_write_only() {
            (&mut writable, Permissions::Write)
        } else {
            (&mut readable, Permissions::Read)
        };
        let length = usize::try_from(descriptor.len()).ok()?;
        let mut address = descriptor.addr();
        for slice in memory.get_slices(address, length, access).ok()? {
            let slice = slice.ok()?;
            let next = behind(address, slice.len());
            pieces.push(Piece { address, slice });
            address = next;
        }
        last = Some(descriptor);
    }
    // A loop, a wild index, or a table inside a table ends the walk before the chain's end.
    last.is_some_and(|last| !last.has_next()).then_some((readable, writable))
}

/// What was found in memory has no end beyond that of all addresses.
fn behind(address: GuestAddress, length: usize) -> GuestAddress {
    GuestAddress(address.0.saturating_add(length as u64))
}

impl<'m, B: BitmapSlice> Buffers<'m, B> {
    fn new(pieces: Vec<Piece<'m, B>>) -> Self {
        Self { pieces, piece: 0, offset: 0, done: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn available(&self) -> usize {
        let all: usize =
            self.pieces.iter().fold(0, |sum, piece| usize::saturating_add(sum, piece.slice.len()));
        all.saturating_sub(self.done)
    }

    /// Bytes that were read or written.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// What is left, as pieces of at most `most` bytes together.
    pub(crate) fn rest(&self, most: usize) -> Vec<VolatileSlice<'m, B>> {
        self.parts(most).into_iter().map(|part| part.slice).collect()
    }

    /// The same by its places, for work that goes on when the chain is no longer looked at.
    pub(crate) fn spans(&self, most: usize) -> Vec<Span> {
        let span = |part: Piece<'_, B>| Span { address: part.address, length: part.slice.len() };
        self.parts(most).into_iter().map(span).filter(|span| span.length > 0).collect()
    }

    fn parts(&self, most: usize) -> Vec<Piece<'m, B>> {
        let mut parts = Vec::new();
        let (mut offset, mut room) = (self.offset, most);
        for piece in self.pieces.iter().skip(self.piece) {
            let Ok(left) = piece.slice.offset(offset) else { break };
            let Ok(slice) = left.subslice(0, left.len().min(room)) else { break };
            room = room.saturating_sub(slice.len());
            parts.push(Piece { address: behind(piece.address, offset), slice });
            if room == 0 {
                break;
            }
            offset = 0;
        }
        parts
    }

    /// Hands pieces to `copy`, which returns how much of one it took, until it takes less than it could.
    fn each(&mut self, mut copy: impl FnMut(&VolatileSlice<'m, B>, usize) -> usize) -> usize {
        let before = self.done;
        while let Some(piece) = self.pieces.get(self.piece) {
            let Ok(rest) = piece.slice.offset(self.offset) else { break };
            let copied = copy(&rest, self.done.saturating_sub(before)).min(rest.len());
            self.done = self.done.saturating_add(copied);
            self.offset = self.offset.saturating_add(copied);
            if copied < rest.len() {
                break;
            }
            self.piece = self.piece.saturating_add(1);
            self.offset = 0;
        }
        self.done.saturating_sub(before)
    }
}

impl<B: BitmapSlice> Read for Buffers<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.each(|piece, at| buffer.get_mut(at..).map_or(0, |rest| piece.copy_to(rest))))
    }
}

impl<B: BitmapSlice> Write for Buffers<'_, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.each(|piece, at| {
            let rest = bytes.get(at..).unwrap_or_default();
            piece.copy_from(rest);
            rest.len()
        }))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{AVAILABLE, Driver};

    #[test]
    fn a_queue_that_was_not_set_up_is_neither_waited_for_nor_written_to() {
        let driver = Driver::new();
        // Where its rings would lie there is something that could be one.
        let before = [3_u8; 0x100];
        driver.memory.write_slice(&before, GuestAddress(0)).unwrap();
        let mut queue = Queue::new(16).unwrap();
        assert_eq!(serve(&mut queue, &driver.memory, |_| 0).unwrap(), Pass::default());
        assert!(!await_more(&mut queue, &driver.memory).unwrap());
        let mut after = [0; 0x100];
        driver.memory.read_slice(&mut after, GuestAddress(0)).unwrap();
        assert_eq!(after, before);
    }

    #[test]
    fn rings_over_each_other_are_left_again() {
        let mut driver = Driver::with_rings_over_each_other();
        let mut served = 0;
        for _ in 0..3 {
            let pass = serve(&mut driver.queue, &driver.memory, |_| {
                served += 1;
                0
            });
            assert!(pass.unwrap().goes_on);
        }
        assert_eq!(served, 1);
    }

    #[test]
    fn a_queue_that_is_never_empty_is_left_again() {
        let mut driver = Driver::new();
        driver.offer(0);
        let mut count = 1_u16;
        let memory = driver.memory.clone();
        let pass = serve(&mut driver.queue, &memory, |_| {
            // As another vCPU does it.
            count = count.wrapping_add(1);
            memory.write_obj(count, GuestAddress(AVAILABLE + 2)).unwrap();
            0
        });
        assert!(pass.unwrap().goes_on);
        assert_eq!(usize::from(count) - 1, CHAINS);
    }

    fn buffers(bytes: &mut [u8]) -> Buffers<'_, ()> {
        let whole = VolatileSlice::from(bytes);
        let piece = |at, length| Piece {
            address: GuestAddress(0x1000 + at as u64),
            slice: whole.subslice(at, length).unwrap(),
        };
        Buffers::new(vec![piece(0, 3), piece(3, 0), piece(3, 5), piece(8, 2)])
    }

    #[test]
    fn bytes_go_through_pieces_in_their_order_however_they_are_cut() {
        let mut memory = *b"0123456789";
        let mut text = [0; 10];
        let mut reading = buffers(&mut memory);
        for range in [0..1, 1..4, 4..4, 4..9, 9..10] {
            reading.read_exact(&mut text[range]).unwrap();
        }
        assert_eq!((&text, reading.available(), reading.done()), (b"0123456789", 0, 10));
        assert_eq!(reading.read(&mut [0; 4]).unwrap(), 0, "there is no more");
        let mut writing = buffers(&mut memory);
        writing.write_all(b"abcd").unwrap();
        writing.write_all(b"efghij").unwrap();
        assert!(writing.write_all(b"k").is_err(), "there is no room for more");
        assert_eq!(memory, *b"abcdefghij");
    }

    #[test]
    fn the_rest_is_what_was_not_done() {
        let mut memory = *b"0123456789";
        let mut buffers = buffers(&mut memory);
        let lengths = |buffers: &Buffers<'_, ()>, most| -> Vec<usize> {
            buffers.rest(most).iter().map(VolatileSlice::len).collect()
        };
        assert_eq!(lengths(&buffers, 100), [3, 0, 5, 2]);
        assert_eq!(lengths(&buffers, 4), [3, 0, 1]);
        buffers.read_exact(&mut [0; 4]).unwrap();
        assert_eq!((buffers.available(), lengths(&buffers, 100)), (6, vec![4, 2]));
        let span = |address, length| Span { address: GuestAddress(address), length };
        assert_eq!(buffers.spans(5), [span(0x1004, 4), span(0x1008, 1)]);
        buffers.read_exact(&mut [0; 6]).unwrap();
        assert_eq!((buffers.available(), buffers.done(), buffers.spans(5)), (0, 10, vec![]));
    }
}
