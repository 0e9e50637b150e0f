//! Guest memory between pages that nobody may touch: what reaches over an end of it ends the process.

use std::cell::Cell;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use vm_memory::{Bytes, GuestAddress, GuestRegionMmap, MmapRegion};
use vmm::memory::Memory;

const PAGE: u64 = 4096;
/// Pages around each range.
const GUARD: usize = 16 * PAGE as usize;

thread_local! {
    /// Where the last memory of this thread was. It is used again for the next, and never given back.
    static PLACE: Cell<Option<(NonNull<u8>, usize)>> = const { Cell::new(None) };
}

/// Memory at these ranges of the guest's addresses, whole pages, all zero. The one before it on this thread is no more.
pub(crate) fn of(ranges: &[Range<u64>]) -> Memory {
    let size = |range: &Range<u64>| (range.end - range.start) as usize;
    let all = ranges.iter().map(|range| size(range) + GUARD).sum::<usize>() + GUARD;
    let place = fresh(all);
    let mut offset = GUARD;
    let regions = ranges.iter().map(|range| {
        let size = size(range);
        let start = place.as_ptr().wrapping_add(offset);
        offset += size + GUARD;
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the pages lie in the mapping that `fresh` has just made.
        unsafe { mprotect(start.cast(), size, access) }.unwrap();
        // SAFETY: as above; the mapping stays as long as the process.
        let region = unsafe { MmapRegion::build_raw(start, size, 0, 0) }.unwrap();
        GuestRegionMmap::new(region, GuestAddress(range.start)).unwrap()
    });
    Memory::from_regions(regions.collect()).unwrap()
}

/// Pages of which none may be touched yet.
fn fresh(size: usize) -> NonNull<u8> {
    let old = PLACE.get().filter(|(_, length)| *length == size);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let (at, flags) = old.map_or((null_mut(), flags), |(place, _)| (place.as_ptr(), flags | MapFlags::FIXED));
    // SAFETY: either new pages, or in place of those of this thread's last run, which is over.
    let place = unsafe { mmap_anonymous(at.cast(), size, ProtFlags::empty(), flags) }.unwrap();
    let place = NonNull::new(place.cast()).unwrap();
    PLACE.set(Some((place, size)));
    place
}

pub(crate) fn read(memory: &Memory, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

pub(crate) fn write(memory: &Memory, at: u64, bytes: &[u8]) {
    memory.write_slice(bytes, GuestAddress(at)).unwrap();
}
