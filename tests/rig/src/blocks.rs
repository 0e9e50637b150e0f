//! Contents that whoever checks them makes anew: no two blocks or lines are alike, and none is like one moved or cut.

/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Fills a block with what stands there after it was written in this round.
pub fn fill(block: &mut [u8], seed: u64, number: u64, round: u64) {
    let mut numbers = Numbers::new(seed ^ number.rotate_left(24) ^ round.rotate_left(48));
    for bytes in block.chunks_mut(8) {
        bytes.copy_from_slice(&numbers.draw().to_le_bytes()[..bytes.len()]);
    }
}

/// Which of `blocks` blocks a round writes, in this order.
pub fn written(seed: u64, blocks: u64, round: u64) -> impl Iterator<Item = u64> {
    let mut numbers = Numbers::new(seed ^ round.rotate_left(32));
    (0..blocks / 2).map(move |_| numbers.below(blocks))
}

/// The round that wrote each block last, none for those that no round wrote.
pub fn last_rounds(seed: u64, blocks: u64, rounds: u64) -> Vec<Option<u64>> {
    let mut last = Vec::new();
    last.resize_with(usize::try_from(blocks).unwrap_or(usize::MAX), || None);
    for round in 0..rounds {
        for number in written(seed, blocks, round) {
            if let Some(last) = usize::try_from(number).ok().and_then(|number| last.get_mut(number)) {
                *last = Some(round);
            }
        }
    }
    last
}

/// A line of text, 63 characters.
pub fn line(number: u64) -> String {
    let mut numbers = Numbers::new(number);
    format!("{number:015} {:016x}{:016x}{:015x}", numbers.draw(), numbers.draw(), numbers.draw() >> 4)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_blocks_are_alike() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            for number in 0..64 {
                for round in 0..8 {
                    let mut block = vec![0; BLOCK];
                    fill(&mut block, seed, number, round);
                    assert!(seen.insert(block), "seed {seed}, block {number}, round {round}");
                }
            }
        }
    }

    #[test]
    fn rounds_write_some_blocks_and_leave_some() {
        let last = last_rounds(7, 256, 2);
        assert_eq!(last.len(), 256);
        for wanted in [None, Some(0), Some(1)] {
            assert!(last.iter().filter(|round| **round == wanted).count() > 16, "{wanted:?}");
        }
    }

    #[test]
    fn lines_have_one_length() {
        assert!([0, 1, 1 << 14, 999_999_999].iter().all(|number| line(*number).len() == 63));
    }
}
