//! The time stamp counter.

/// The counter's value now.
#[allow(clippy::unnecessary_wraps)] // Other processors have none.
pub(crate) fn timestamp_counter() -> Option<u64> {
    // SAFETY: RDTSC is part of every x86_64 processor, reads no memory, and Linux leaves it open to user space.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}
