//! The processor's own: its time stamp counter, and a loop of known length.

/// The counter's value now.
#[allow(clippy::unnecessary_wraps)] // Other processors have none.
pub(crate) fn timestamp_counter() -> Option<u64> {
    // SAFETY: RDTSC is part of every x86_64 processor, reads no memory, and Linux leaves it open to user space.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

/// Counts down from `count`, one instruction for the step and one for the jump: what a probe's guest does, too.
pub(crate) fn count_down(count: u32) {
    // SAFETY: touches one register and the flags, and ends.
    unsafe {
        core::arch::asm!(
            "2:", "dec {0:e}", "jnz 2b",
            inout(reg) count => _,
            options(nomem, nostack),
        );
    }
}
