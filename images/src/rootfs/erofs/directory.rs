//! Directories: blocks of entries, each sorted by the bytes of its name, which lie behind the entries of the block.

use super::format::{DIRENT, dirent};
use crate::rootfs::pack::BLOCK;

/// What is in a directory, in the order of the names, with `.` and `..`.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    entries: Vec<Name<'a>>,
    /// How many of them each block has.
    blocks: Vec<usize>,
    size: usize,
}

/// A name, and the place among the inodes of what has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) name: &'a str,
    pub(super) inode: usize,
    pub(super) kind: u8,
}

impl<'a> Directory<'a> {
    pub(super) fn new(mut entries: Vec<Name<'a>>) -> Self {
        entries.sort_by_key(|entry| entry.name.as_bytes());
        let (mut blocks, mut used, mut count) = (Vec::new(), 0_usize, 0_usize);
        for entry in &entries {
            let wanted = DIRENT.saturating_add(entry.name.len());
            if used.saturating_add(wanted) > BLOCK {
                blocks.push(count);
                (used, count) = (0, 0);
            }
            (used, count) = (used.saturating_add(wanted), count.saturating_add(1));
        }
        let size = blocks.len().saturating_mul(BLOCK).saturating_add(used);
        blocks.push(count);
        Self { entries, blocks, size }
    }

    /// Known before the inodes have their numbers.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many names it has itself: its own, `.`, and the `..` of each directory in it. In the root, `..` is one more.
    pub(super) fn links(&self) -> u32 {
        let of_directories = self.entries.iter().filter(|entry| entry.kind == 2).count();
        u32::try_from(of_directories).unwrap_or(u32::MAX)
    }

    /// The blocks, the last as long as it has to be.
    pub(super) fn encode(&self, number: impl Fn(usize) -> u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size);
        let mut rest = self.entries.as_slice();
        for count in &self.blocks {
            let (block, others) = rest.split_at_checked(*count).unwrap_or((rest, &[]));
            rest = others;
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            let mut name_at = count.saturating_mul(DIRENT);
            for entry in block {
                let at = u16::try_from(name_at).unwrap_or_default();
                bytes.extend(dirent(number(entry.inode), at, entry.kind));
                name_at = name_at.saturating_add(entry.name.len());
            }
            block.iter().for_each(|entry| bytes.extend(entry.name.as_bytes()));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_blocks_are_full() {
        let names: Vec<_> = (0..400).map(|number| format!("file-{number}-with-a-name")).collect();
        let all = [".", "..", "!", "-", "0"].into_iter().chain(names.iter().map(String::as_str));
        let entries = all.enumerate().map(|(inode, name)| Name { name, inode, kind: 1 }).collect();
        let directory = Directory::new(entries);
        let bytes = directory.encode(|inode| inode as u64 + 1_000);
        assert_eq!(bytes.len(), directory.size());
        assert_eq!(directory.blocks.iter().sum::<usize>(), 405);

        let mut found = Vec::new();
        for block in bytes.chunks(BLOCK) {
            let at = |entry: usize| {
                usize::from(u16::from_le_bytes([block[12 * entry + 8], block[12 * entry + 9]]))
            };
            let count = at(0) / DIRENT;
            for entry in 0..count {
                let end = if entry + 1 < count { at(entry + 1) } else { block.len() };
                let name = String::from_utf8(block[at(entry)..end].to_vec()).unwrap();
                let number = u64::from_le_bytes(block[12 * entry..12 * entry + 8].try_into().unwrap());
                found.push((name.trim_end_matches('\0').to_owned(), number));
            }
        }
        let sorted: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert!(sorted.is_sorted());
        assert_eq!(&sorted[..5], ["!", "-", ".", "..", "0"]);
        assert!(found.contains(&("file-399-with-a-name".to_owned(), 1_404)));
        assert_eq!(found.len(), 405);
    }
}
