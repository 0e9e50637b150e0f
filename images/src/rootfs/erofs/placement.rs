//! Where inodes lie, each with what is behind it.

use super::format::{FIRST_INODE, SLOT};
use crate::rootfs::pack::BLOCK;

/// So many gaps are looked through for one that is large enough.
const GAPS: usize = 64;

/// What has been given away so far.
#[derive(Debug)]
pub(super) struct Placement {
    end: usize,
    /// Where blocks have room left, and how much.
    gaps: Vec<(usize, usize)>,
}

impl Default for Placement {
    fn default() -> Self {
        Self { end: FIRST_INODE, gaps: Vec::new() }
    }
}

impl Placement {
    /// A place for so many bytes, of which the last so many may not lie in two blocks: in the first gap that has room, or behind
    /// all others.
    pub(super) fn place(&mut self, bytes: usize, uncut: usize) -> usize {
        let room = bytes.next_multiple_of(SLOT);
        if uncut > 0 {
            if let Some(found) = self.gaps.iter().position(|(_, left)| *left >= room) {
                let (at, left) = self.gaps.remove(found);
                self.add_gap(at.saturating_add(room), left.saturating_sub(room));
                return at;
            }
            let end = self.end.saturating_add(bytes);
            let border = end.saturating_sub(uncut).next_multiple_of(BLOCK);
            if border < end && border > end.saturating_sub(uncut) {
                self.skip(border.saturating_sub(end.saturating_sub(uncut)).next_multiple_of(SLOT));
            }
        }
        let at = self.end;
        self.end = at.saturating_add(room);
        at
    }

    /// Leaves a gap: never over a border, for what fills it is not to be cut either.
    fn skip(&mut self, count: usize) {
        let (start, end) = (self.end, self.end.saturating_add(count));
        let border = start.next_multiple_of(BLOCK).clamp(start, end);
        for (from, to) in [(start, border), (border, end)] {
            self.add_gap(from, to.saturating_sub(from));
        }
        self.end = end;
    }

    /// The smallest is forgotten when there are too many.
    fn add_gap(&mut self, at: usize, room: usize) {
        if room == 0 {
            return;
        }
        self.gaps.push((at, room));
        if self.gaps.len() > GAPS
            && let Some(smallest) =
                (0..self.gaps.len()).min_by_key(|place| self.gaps.get(*place).map(|gap| gap.1))
        {
            self.gaps.remove(smallest);
        }
    }

    /// How many blocks all of them take.
    pub(super) fn blocks(&self) -> usize {
        self.end.div_ceil(BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_cut_is_not_cut_and_gaps_are_filled() {
        let mut placement = Placement::default();
        assert_eq!(placement.place(2_880, 2_880), 1_184, "it ends at 4064");
        assert_eq!(placement.place(40, 0), 4_064, "over the border");
        assert_eq!(placement.place(4_080, 4_080), 8_192);
        assert_eq!(placement.place(4_096, 4_096), 12_288);
        assert_eq!(placement.place(64, 64), 4_128, "in the gap of the second block");
        assert_eq!(placement.place(96, 96), 4_192);
        assert_eq!(placement.place(64, 64), 4_288);
        assert_eq!(placement.place(1_000, 0), 16_384);
        assert_eq!(placement.blocks(), 5);
    }

    #[test]
    fn only_the_end_need_not_be_cut() {
        let mut placement = Placement::default();
        // Over a border, and its end behind it.
        assert_eq!(placement.place(4_000, 1_000), 1_184);
        // Its end would be cut at 8192: from 8180 to 8300.
        assert_eq!(placement.end, 5_184);
        assert_eq!(placement.place(3_116, 120), 5_216, "so that it begins there");
        assert_eq!(placement.gaps, [(5_184, 32)]);
        assert_eq!(placement.place(32, 32), 5_184);
    }
}
