//! How the guest's memory is kept.

use rustix::io::Errno;

/// There is nothing to ask for: pages have 16 KiB, and larger ones are the host's own affair.
pub(crate) fn prefer_huge_pages(_start: *mut u8, _length: usize) {}

/// Takes pages away, as soon as the host wants them. Afterwards they hold zeroes, or still what they held: who gave them up
/// relies on neither. A new mapping in their place would be exact, but leave a guest with the old one; the price of this is
/// that pages which the guest uses again no longer count as this process's where the host shows its memory.
///
/// # Safety
/// They have to be whole pages of a mapping of guest memory, and nobody may need what is in them.
pub(crate) unsafe fn release(start: *mut u8, length: usize) -> rustix::io::Result<()> {
    // SAFETY: as the caller says.
    match unsafe { libc::madvise(start.cast(), length, libc::MADV_FREE_REUSABLE) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Why libc's last call on this thread failed.
pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
