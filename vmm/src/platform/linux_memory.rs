//! Linux: mappings of guest memory, files that are read into it and written from it, their locks, and random numbers.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// The size of the host's pages.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Asks for large pages behind a mapping; where the host has none to give, it stays with small ones.
pub(crate) fn prefer_huge_pages(start: *mut u8, length: usize) {
    // SAFETY: the advice changes how the memory is kept, not what is in it.
    if let Err(error) = unsafe { madvise(start.cast(), length, Advice::LinuxHugepage) } {
        tracing::debug!(%error, "guest memory has no huge pages");
    }
}

/// Puts a private mapping of `length` bytes of `file`, from `offset` on, in place of the memory at `start`. All three are
/// multiples of the page size.
///
/// # Safety
/// The memory has to belong to a mapping that the caller may replace in part, and nobody may hold a reference into it.
pub(crate) unsafe fn map_file_privately(
    start: *mut u8,
    length: u64,
    file: &File,
    offset: u64,
) -> io::Result<()> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: as the caller says.
    unsafe { mmap(start.cast(), length, ProtFlags::READ | ProtFlags::WRITE, flags, file, offset) }?;
    Ok(())
}

/// Fills `bytes` from the host's generator.
pub(crate) fn random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = getrandom(&mut *bytes, GetRandomFlags::empty())?;
        bytes = bytes.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

/// Locks a whole file for as long as this opening of it is open, against every other one: for itself alone, or together
/// with others that only read. QEMU's locks are of the same kind, and are heeded as ours are by it.
pub(crate) fn lock(file: &File, is_exclusive: bool) -> io::Result<()> {
    let kind = if is_exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: all bits zero are a valid value: from the start of the file to wherever it ends.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    uninterrupted(|| {
        // SAFETY: the structure is valid, and the call reads nothing else.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Makes a call again for as long as signals end it: one may come while a lock is being taken.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Pieces that one system call takes (IOV_MAX is 1024).
const MOST_PIECES: usize = 512;

/// Reads from `offset` of a file into guest memory; returns how many bytes.
pub(crate) fn read_at<B: BitmapSlice>(
    file: &File,
    pieces: &[VolatileSlice<'_, B>],
    offset: u64,
) -> io::Result<usize> {
    let vector = vector(pieces);
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: each entry is memory of the guest's that stays mapped while `pieces` lives, and is written as bytes.
    counted(unsafe { libc::preadv(file.as_raw_fd(), vector.as_ptr(), count(&vector), offset) })
}

/// Writes guest memory to a file, from `offset` on; returns how many bytes.
pub(crate) fn write_at<B: BitmapSlice>(
    file: &File,
    pieces: &[VolatileSlice<'_, B>],
    offset: u64,
) -> io::Result<usize> {
    let vector = vector(pieces);
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: each entry is memory of the guest's that stays mapped while `pieces` lives.
    counted(unsafe { libc::pwritev(file.as_raw_fd(), vector.as_ptr(), count(&vector), offset) })
}

fn vector<B: BitmapSlice>(pieces: &[VolatileSlice<'_, B>]) -> Vec<libc::iovec> {
    let entry = |piece: &VolatileSlice<'_, B>| libc::iovec {
        iov_base: piece.ptr_guard_mut().as_ptr().cast(),
        iov_len: piece.len(),
    };
    pieces.iter().filter(|piece| !piece.is_empty()).take(MOST_PIECES).map(entry).collect()
}

fn count(vector: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(vector.len()).unwrap_or(libc::c_int::MAX)
}

fn counted(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Gives the whole pages of a piece of guest memory back to the host. The guest finds zeroes there afterwards, or what the
/// file holds where one is mapped.
pub(crate) fn give_back<B: BitmapSlice>(piece: &VolatileSlice<'_, B>) {
    let pointer = piece.ptr_guard_mut();
    let page = rustix::param::page_size();
    let before = pointer.as_ptr().align_offset(page);
    // A page's size is a power of two.
    let length = piece.len().saturating_sub(before) & !page.saturating_sub(1);
    if length == 0 {
        return;
    }
    // SAFETY: the pages lie in the piece, which is guest memory that nobody refers into; to lose their content is what the
    // guest asks for.
    let given =
        unsafe { madvise(pointer.as_ptr().wrapping_add(before).cast(), length, Advice::LinuxDontNeed) };
    if let Err(error) = given {
        tracing::debug!(%error, "pages that the guest gave up stay");
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    use super::*;
    use crate::memory;

    #[test]
    fn a_call_that_a_signal_ends_is_made_again() {
        // Cloud Hypervisor #8402: a lock that could not be taken for a signal was an error.
        let mut errors = vec![libc::EACCES, libc::EINTR, libc::EINTR];
        let mut call = || errors.pop().map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)));
        let error = uninterrupted(&mut call).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        uninterrupted(&mut call).unwrap();
    }

    #[test]
    fn what_is_no_whole_page_of_the_hosts_is_not_given_back() {
        // Firecracker #4916, #5222: pages were taken to be of 4 KiB.
        let page = page_size();
        let memory = memory::of_size(4 * page);
        let given = |start: u64, length: u64| -> Vec<bool> {
            memory.write_slice(&vec![7; usize::try_from(4 * page).unwrap()], GuestAddress(0)).unwrap();
            let length = usize::try_from(length).unwrap();
            give_back(&GuestMemoryBackend::get_slice(&memory, GuestAddress(start), length).unwrap());
            let mut bytes = vec![0; usize::try_from(4 * page).unwrap()];
            memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
            let pages = bytes.chunks(usize::try_from(page).unwrap());
            pages.map(|page| page.iter().all(|byte| *byte == 0)).collect()
        };
        assert_eq!(given(0, 4 * page), [true; 4]);
        assert_eq!(given(1, 3 * page), [false, true, true, false]);
        assert_eq!(given(page, 2 * page - 1), [false, true, false, false]);
        for (start, length) in [(0, 0), (0, page - 1), (1, page), (page / 2, page), (4 * page - 1, 1)] {
            assert_eq!(given(start, length), [false; 4], "{length} from {start}");
        }
    }
}
