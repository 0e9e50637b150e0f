//! The guest's memory: anonymous pages of this process, of which the host gives only what is touched.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion, VolatileSlice,
};

use crate::platform;

/// Guest memory as devices get it.
pub type Memory = GuestMemoryMmap<()>;

/// Why there is no memory, or nothing can be put into it.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("cannot get {mib} MiB of memory for the guest; give it less")]
    Allocate {
        mib: u64,
        #[source]
        source: io::Error,
    },
    #[error("the guest has no memory from {start:#x} to {end:#x}; give it more")]
    Outside { start: u64, end: u64 },
    #[error("cannot read a file into the guest's memory")]
    File(#[source] io::Error),
}

/// Memory at these ranges of the guest's addresses, all zero.
pub fn allocate(ranges: &[Range<u64>]) -> Result<Memory, MemoryError> {
    let total: u64 =
        ranges.iter().map(|range| range.end.saturating_sub(range.start)).fold(0, u64::saturating_add);
    let failed = |source| MemoryError::Allocate { mib: total >> 20, source };
    let regions = ranges.iter().map(|range| {
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let region = MmapRegion::new(length).map_err(io::Error::other)?;
        platform::prefer_huge_pages(region.as_ptr(), length);
        GuestRegionMmap::new(region, GuestAddress(range.start))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    });
    let regions = regions.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Memory::from_regions(regions).map_err(|error| failed(io::Error::other(error)))
}

/// Memory from 0 on, for tests.
#[cfg(test)]
pub(crate) fn of_size(size: u64) -> Memory {
    allocate(std::slice::from_ref(&(0..size))).unwrap()
}

/// Where each region stands: the guest's address, and the host's memory behind it.
pub fn regions(memory: &Memory) -> Vec<(u64, NonNull<[u8]>)> {
    let region = |region: &GuestRegionMmap<()>| {
        let start = NonNull::new(region.as_ptr())?;
        Some((region.start_addr().raw_value(), NonNull::slice_from_raw_parts(start, region.size())))
    };
    memory.iter().filter_map(region).collect()
}

/// Puts `bytes` at `address`.
pub fn write(memory: &Memory, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
    let outside =
        |_| MemoryError::Outside { start: address, end: address.saturating_add(bytes.len() as u64) };
    memory.write_slice(bytes, GuestAddress(address)).map_err(outside)
}

/// Makes the guest see `length` bytes of a file, from `offset` on, at `address`. What is whole pages in both is mapped:
/// the guest gets the host's own cached pages, and a copy of those that it writes to. The rest is read.
pub fn place_file(
    memory: &Memory,
    address: u64,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<(), MemoryError> {
    let slice = slice(memory, address, length)?;
    // A page that is mapped behind the file's end kills whoever touches it.
    let size = file.metadata().map_err(MemoryError::File)?.len();
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(MemoryError::File(io::ErrorKind::UnexpectedEof.into()));
    }
    let page = platform::page_size();
    let is_aligned = address.is_multiple_of(page) && offset.is_multiple_of(page);
    // A page's size is a power of two.
    let mapped = if is_aligned { length & !page.saturating_sub(1) } else { 0 };
    if mapped > 0 {
        // SAFETY: the slice is at least so long, and lies in a mapping that `memory` owns and nobody refers into.
        unsafe { platform::map_file_privately(slice.ptr_guard_mut().as_ptr(), mapped, file, offset) }
            .map_err(MemoryError::File)?;
    }
    let mut rest = vec![0; usize::try_from(length.saturating_sub(mapped)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut rest, offset.saturating_add(mapped)).map_err(MemoryError::File)?;
    write(memory, address.saturating_add(mapped), &rest)
}

fn slice(memory: &Memory, address: u64, length: u64) -> Result<VolatileSlice<'_>, MemoryError> {
    let outside = || MemoryError::Outside { start: address, end: address.saturating_add(length) };
    let count = usize::try_from(length).map_err(|_| outside())?;
    GuestMemoryBackend::get_slice(memory, GuestAddress(address), count).map_err(|_| outside())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(memory: &Memory, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    #[test]
    fn a_placed_file_is_seen_whole_and_never_written_back() {
        let content: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let memory = of_size(1 << 20);
        for (address, offset) in [(0x1_0000, 0), (0x2_0000, 4096), (0x3_0010, 8), (0x4_0000, 3)] {
            let length = 10_000;
            write(&memory, address + length, b"behind").unwrap();
            place_file(&memory, address, &file, offset, length).unwrap();
            let expected = &content[offset as usize..][..length as usize];
            assert_eq!(read(&memory, address, length as usize), expected, "at {address:#x} from {offset}");
            assert_eq!(read(&memory, address + length, 6), b"behind", "nothing of the file behind it");
            write(&memory, address, b"the guest's").unwrap();
        }
        let mut unchanged = vec![0; content.len()];
        file.read_exact_at(&mut unchanged, 0).unwrap();
        assert_eq!(unchanged, content);
    }

    #[test]
    fn the_largest_number_of_mebibytes_is_too_much_and_not_little() {
        // Firecracker #6076: as a number of bytes it had wrapped around.
        let size = u64::from(u32::MAX) << 20;
        let error = allocate(&crate::board::x86_64::layout::memory(size)).unwrap_err();
        let expected = "cannot get 4294967295 MiB of memory for the guest; give it less";
        assert_eq!(error.to_string(), expected);
        assert!(allocate(std::slice::from_ref(&(0..u64::MAX))).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let memory = of_size(1 << 20);
        let file = tempfile::tempfile().unwrap();
        let error = place_file(&memory, (1 << 20) - 4096, &file, 0, 8192).unwrap_err();
        assert_eq!(error.to_string(), "the guest has no memory from 0xff000 to 0x101000; give it more");
        place_file(&memory, u64::MAX - 10, &file, 0, 100).unwrap_err();
        place_file(&memory, 0, &file, 0, 100).unwrap_err();
        file.set_len(4096).unwrap();
        let error = place_file(&memory, 0, &file, 0, 8192).unwrap_err();
        assert!(matches!(error, MemoryError::File(_)), "whole pages behind the file's end: {error}");
    }
}
