//! The processor's own: a loop of known length. Its counter is no business of ours: it tells a guest its own rate.

pub(crate) fn timestamp_counter() -> Option<u64> {
    None
}

/// Counts down from `count`, one instruction for the step and one for the jump: what a probe's guest does, too.
pub(crate) fn count_down(count: u32) {
    // SAFETY: touches one register and the flags, and ends.
    unsafe {
        core::arch::asm!(
            "2:", "subs {0:w}, {0:w}, #1", "b.ne 2b",
            inout(reg) count => _,
            options(nomem, nostack),
        );
    }
}
