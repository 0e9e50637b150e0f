//! Where the extents of a compressed file are: an entry for each block of the file.

use super::format::{INDEX_ENTRY, INDEX_HEADER, index_head, index_header, index_inner};
use crate::rootfs::pack::{BLOCK, Extent};

/// How many bytes it takes, of a file that large.
pub(super) fn bytes(size: u64) -> usize {
    let entries = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
    INDEX_HEADER.saturating_add(entries.saturating_mul(INDEX_ENTRY))
}

/// Of extents that lie one behind the other, from a block of the image on; the last has `tail` bytes behind the index, if that is
/// where it lies.
///
/// In no block of the file do two extents begin: one that is not at least a block long ends where a block ends.
pub(super) fn encode(extents: &[Extent], first_block: u32, tail: usize) -> Vec<u8> {
    let mut bytes = index_header(tail);
    let (mut start, mut block) = (0_usize, first_block);
    for (number, extent) in extents.iter().enumerate() {
        let end = start.saturating_add(usize::try_from(extent.size).unwrap_or(usize::MAX));
        let offset = u16::try_from(start % BLOCK).unwrap_or_default();
        bytes.extend(index_head(extent.is_compressed(), offset, block));
        let is_last = number.saturating_add(1) == extents.len();
        // The block that it ends in is the next one's, whose beginning lies there.
        let next = if is_last { end.div_ceil(BLOCK) } else { end / BLOCK };
        let inner = next.saturating_sub(start / BLOCK).saturating_sub(1);
        for back in 1..=inner {
            let ahead = inner.saturating_sub(back).saturating_add(1);
            let short = |distance: usize| u16::try_from(distance).unwrap_or_default();
            bytes.extend(index_inner(short(back), short(ahead), extent.blocks()));
        }
        start = end;
        block = block.saturating_add(u32::try_from(extent.blocks()).unwrap_or(u32::MAX));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(extents: &[Extent]) -> Vec<[u16; 4]> {
        let bytes = encode(extents, 100, 0);
        let size: u64 = extents.iter().map(|extent| u64::from(extent.size)).sum();
        assert_eq!(bytes.len(), super::bytes(size));
        let field = |entry: &[u8], at: usize| u16::from_le_bytes([entry[2 * at], entry[2 * at + 1]]);
        let entry = |entry: &[u8]| [field(entry, 0), field(entry, 1), field(entry, 2), field(entry, 3)];
        bytes[INDEX_HEADER..].chunks(INDEX_ENTRY).map(entry).collect()
    }

    #[test]
    fn each_block_of_the_file_has_its_entry() {
        let extent = |size, stored| Extent { size, stored };
        let extents = [
            extent(4096, 4096),
            extent(13_000, 5_000),
            extent(4096, 4096),
            extent(9_000, 10),
            extent(2_576, 2_576),
            extent(424, 424),
        ];
        assert_eq!(
            entries(&extents),
            [
                [0, 0, 100, 0],
                [1, 0, 101, 0],
                // Two blocks; the next extent begins three further on, then the distance back.
                [2, 0, 2 | 1 << 11, 2],
                [2, 0, 2, 1],
                [0, 712, 103, 0],
                [1, 712, 104, 0],
                [2, 0, 1 | 1 << 11, 1],
                [0, 1_520, 105, 0],
                [0, 0, 106, 0],
            ]
        );
    }
}
