//! The guest's memory: anonymous pages of this process, of which the host gives only what is touched.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion, VolatileSlice,
};

use vm_memory::mmap::MmapRegionError;

use crate::platform;

/// A large page, in bytes: on x86_64, and on aarch64 with pages of 4 KiB.
const LARGE: usize = 2 << 20;

/// Guest memory as devices get it.
pub type Memory = GuestMemoryMmap<()>;

/// A piece of guest memory by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) address: GuestAddress,
    pub(crate) length: usize,
}

impl Span {
    /// Of one that is not empty.
    pub(crate) fn last_byte(&self) -> GuestAddress {
        let behind = self.address.raw_value().saturating_add(self.length as u64);
        GuestAddress(behind.saturating_sub(1))
    }
}

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
        let region = mapping(length).map_err(io::Error::other)?;
        platform::prefer_huge_pages(region.as_ptr(), length);
        GuestRegionMmap::new(region, GuestAddress(range.start))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    });
    let regions = regions.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Memory::from_regions(regions).map_err(|error| failed(io::Error::other(error)))
}

/// A mapping that begins at a multiple of [`LARGE`], as its range of the guest's addresses does: only so can the
/// hypervisor map large pages whole. Linux sees to that itself since 6.7. Before, it puts a mapping right below the last
/// one; then one that lasts as long as this takes moves it. Where that fails the guest is slower, and nothing else.
fn mapping(length: usize) -> Result<MmapRegion, MmapRegionError> {
    let first = MmapRegion::new(length)?;
    let beyond = first.as_ptr().addr() & LARGE.saturating_sub(1);
    if beyond == 0 || length < LARGE {
        return Ok(first);
    }
    drop(first);
    let _filler = MmapRegion::<()>::new(beyond)?;
    MmapRegion::new(length)
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

/// Copies `length` bytes of a file, from `offset` on, to `address`. A mapping of the file would cost more: the guest
/// would fault on each small page of it, where a copy lies in large ones.
pub fn read_file(
    memory: &Memory,
    address: u64,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<(), MemoryError> {
    let mut rest = slice(memory, address, length)?;
    let mut at = offset;
    while !rest.is_empty() {
        let count = match platform::read_at(file, std::slice::from_ref(&rest), at) {
            Ok(0) => return Err(MemoryError::File(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(MemoryError::File(error)),
        };
        rest = rest.offset(count).map_err(|error| MemoryError::File(io::Error::other(error)))?;
        at = at.saturating_add(count as u64);
    }
    Ok(())
}

fn slice(memory: &Memory, address: u64, length: u64) -> Result<VolatileSlice<'_>, MemoryError> {
    let outside = || MemoryError::Outside { start: address, end: address.saturating_add(length) };
    let count = usize::try_from(length).map_err(|_| outside())?;
    GuestMemoryBackend::get_slice(memory, GuestAddress(address), count).map_err(|_| outside())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn read(memory: &Memory, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    #[test]
    fn large_pages_of_host_and_guest_are_the_same() {
        let memory = allocate(&[0..64 << 20, 4 << 30..(4 << 30) + (32 << 20)]).unwrap();
        for (address, region) in regions(&memory) {
            let host = region.cast::<u8>().addr().get();
            assert_eq!(host % LARGE, address as usize % LARGE, "{host:#x} for {address:#x}");
        }
    }

    #[test]
    fn a_file_is_read_whole_and_never_written_back() {
        let content: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let memory = of_size(1 << 20);
        for (address, offset) in [(0x1_0000, 0), (0x2_0000, 4096), (0x3_0010, 8), (0x4_0000, 3)] {
            let length = 10_000;
            write(&memory, address + length, b"behind").unwrap();
            read_file(&memory, address, &file, offset, length).unwrap();
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
        let error = allocate(&crate::board::memory_layout(size)).unwrap_err();
        let expected = "cannot get 4294967295 MiB of memory for the guest; give it less";
        assert_eq!(error.to_string(), expected);
        assert!(allocate(std::slice::from_ref(&(0..u64::MAX))).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let memory = of_size(1 << 20);
        let file = tempfile::tempfile().unwrap();
        let error = read_file(&memory, (1 << 20) - 4096, &file, 0, 8192).unwrap_err();
        assert_eq!(error.to_string(), "the guest has no memory from 0xff000 to 0x101000; give it more");
        read_file(&memory, u64::MAX - 10, &file, 0, 100).unwrap_err();
        read_file(&memory, 0, &file, 0, 100).unwrap_err();
        file.set_len(4096).unwrap();
        let error = read_file(&memory, 0, &file, 0, 8192).unwrap_err();
        assert!(matches!(error, MemoryError::File(_)), "behind the file's end: {error}");
    }
}
