//! What all hosts have alike: mappings, files that are read into guest memory and written from it, and a thread's clock.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

use super::release;

/// What the calling thread has used of a processor so far, its guest's share included.
pub(crate) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
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

/// Gives the whole pages of a piece of guest memory back to the host, as it releases them.
pub(crate) fn give_back<B: BitmapSlice>(piece: &VolatileSlice<'_, B>) {
    let pointer = piece.ptr_guard_mut();
    let (before, length) = whole_pages(pointer.as_ptr().addr(), piece.len(), rustix::param::page_size());
    if length == 0 {
        return;
    }
    // SAFETY: the pages lie in the piece, which is guest memory that nobody refers into; to lose their content is what the
    // guest asks for.
    let given = unsafe { release(pointer.as_ptr().wrapping_add(before), length) };
    if let Err(error) = given {
        tracing::debug!(%error, "pages that the guest gave up stay");
    }
}

/// How far behind `start` whole pages begin, and how many bytes of `length` they are.
fn whole_pages(start: usize, length: usize, page: usize) -> (usize, usize) {
    // A page's size is a power of two.
    let within = page.saturating_sub(1);
    let before = start.wrapping_neg() & within;
    (before, length.saturating_sub(before) & !within)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    use super::*;
    use crate::memory;

    /// Firecracker #4916, #5222: pages were taken to be of 4 KiB.
    #[test]
    fn pages_are_as_large_as_the_hosts() {
        const KIB: usize = 1 << 10;
        for page in [4 * KIB, 16 * KIB, 64 * KIB] {
            for start in [0, 7 * page, usize::MAX - 4 * page + 1] {
                let whole = |from: usize, length| whole_pages(start + from, length, page);
                assert_eq!(whole(0, 3 * page), (0, 3 * page), "{page} from {start}");
                assert_eq!(whole(1, 3 * page), (page - 1, 2 * page), "{page} from {start}");
                assert_eq!(whole(page - 1, 2 * page), (1, page), "{page} from {start}");
                assert_eq!(whole(0, 2 * page - 1), (0, page), "{page} from {start}");
                for (from, length) in [(0, 0), (0, page - 1), (1, page), (page / 2, page), (page - 1, 1)] {
                    assert_eq!(whole(from, length).1, 0, "{page}: {length} from {start} and {from}");
                }
            }
        }
        assert_eq!(whole_pages(4 * KIB, 40 * KIB, 16 * KIB), (12 * KIB, 16 * KIB));
    }

    #[test]
    fn what_is_no_whole_page_of_the_hosts_is_not_given_back() {
        let page = rustix::param::page_size() as u64;
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
