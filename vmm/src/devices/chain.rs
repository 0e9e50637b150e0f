//! A descriptor chain, checked once, at the edge (virtio 1.3, 2.7.4 and 2.7.5).
//!
//! What is wrong with one chain costs that chain: it has nothing in it, neither to read nor to write. What is wrong with
//! a ring is an error, because from then on nothing in it can be believed.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

/// A ring that can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("the guest broke a ring")]
    Broken(#[from] virtio_queue::Error),
    #[error("a ring of the guest has entries outside its memory")]
    Unreadable,
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
    pieces: Vec<VolatileSlice<'m, B>>,
    /// The piece that is next, and how much of it is done.
    piece: usize,
    offset: usize,
    done: usize,
}

/// The next chain that the driver has made available.
pub(crate) fn next<'m, M: GuestMemory>(
    queue: &mut Queue,
    memory: &'m M,
) -> Result<Option<Chain<'m, BS<'m, M::Bitmap>>>, RingError> {
    let is_there = queue.avail_idx(memory, Ordering::Acquire)?.0 != queue.next_avail();
    let Some(descriptors) = queue.iter(memory)?.next() else {
        return if is_there { Err(RingError::Unreadable) } else { Ok(None) };
    };
    let head = descriptors.head_index();
    let longest = usize::from(queue.size());
    let (readable, writable) = resolve(memory, descriptors, longest).unwrap_or_default();
    Ok(Some(Chain { head, readable: Buffers::new(readable), writable: Buffers::new(writable) }))
}

/// Pieces to read, and pieces to write.
type Pieces<'m, B> = (Vec<VolatileSlice<'m, B>>, Vec<VolatileSlice<'m, B>>);

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
        for piece in memory.get_slices(descriptor.addr(), length, access).ok()? {
            pieces.push(piece.ok()?);
        }
        last = Some(descriptor);
    }
    // A loop, a wild index, or a table inside a table ends the walk before the chain's end.
    last.is_some_and(|last| !last.has_next()).then_some((readable, writable))
}

impl<'m, B: BitmapSlice> Buffers<'m, B> {
    fn new(pieces: Vec<VolatileSlice<'m, B>>) -> Self {
        Self { pieces, piece: 0, offset: 0, done: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn available(&self) -> usize {
        let all: usize = self.pieces.iter().fold(0, |sum, piece| usize::saturating_add(sum, piece.len()));
        all.saturating_sub(self.done)
    }

    /// Bytes that were read or written.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// Hands pieces to `copy`, which returns how much of one it took, until it takes less than it could.
    fn each(&mut self, mut copy: impl FnMut(&VolatileSlice<'m, B>, usize) -> usize) -> usize {
        let before = self.done;
        while let Some(piece) = self.pieces.get(self.piece) {
            let Ok(rest) = piece.offset(self.offset) else { break };
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
