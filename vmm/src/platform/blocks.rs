//! Which part of a file's range is whole blocks, where the host has holes of nothing smaller.

use std::ops::Range;

/// The whole blocks of a range; `None` where it has none.
pub(crate) fn whole(range: &Range<u64>, block: u64) -> Option<Range<u64>> {
    let start = range.start.checked_next_multiple_of(block)?;
    let end = range.end.checked_sub(range.end.checked_rem(block)?)?;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_whole_blocks_inside_the_range() {
        assert_eq!(whole(&(0..8192), 4096), Some(0..8192));
        assert_eq!(whole(&(512..12_800), 4096), Some(4096..12_288));
        assert_eq!(whole(&(512..8191), 4096), None);
        assert_eq!(whole(&(4096..4096), 4096), None);
        assert_eq!(whole(&(u64::MAX - 1..u64::MAX), 4096), None);
        assert_eq!(whole(&(0..8192), 0), None, "a file system that does not say");
    }
}
