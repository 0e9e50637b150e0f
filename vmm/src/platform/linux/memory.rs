//! How the guest's memory is kept.

use rustix::mm::{Advice, madvise};

/// Asks for large pages behind a mapping; where the host has none to give, it stays with small ones.
pub(crate) fn prefer_huge_pages(start: *mut u8, length: usize) {
    // SAFETY: the advice changes how the memory is kept, not what is in it.
    if let Err(error) = unsafe { madvise(start.cast(), length, Advice::LinuxHugepage) } {
        tracing::debug!(%error, "guest memory has no huge pages");
    }
}

/// Takes pages away. Afterwards they hold zeroes, or what the file holds where one is mapped.
///
/// # Safety
/// They have to be whole pages of a mapping of guest memory, and nobody may need what is in them.
pub(crate) unsafe fn release(start: *mut u8, length: usize) -> rustix::io::Result<()> {
    // SAFETY: as the caller says.
    unsafe { madvise(start.cast(), length, Advice::LinuxDontNeed) }
}
