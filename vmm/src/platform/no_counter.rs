//! Processors whose counter tells the guest its own rate.

pub(crate) fn timestamp_counter() -> Option<u64> {
    None
}
