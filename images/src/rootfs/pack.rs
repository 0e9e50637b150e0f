//! Contents as the root image has them: cut into extents, and each of them compressed (LZ4) where that saves a block.
//!
//! EROFS stores an extent in whole blocks, so it is the output whose size is fixed: as much of a file as fits into 64 KiB.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use lzzzz::{lz4, lz4_hc};

use super::{Content, Digest, Tree};

/// Of the file system.
pub(crate) const BLOCK: usize = 4096;
/// The most blocks that an extent has in the image: what is larger saves little, and costs a read of one byte more.
pub(crate) const LARGEST: usize = 16;
/// The most of a file that is one extent: of what compresses well, a read of one byte would unpack many.
const LONGEST: usize = 1 << 20;
/// Higher ones save a few per mille and take four times as long.
const LEVEL: i32 = lz4_hc::CLEVEL_DEFAULT;
/// Each has some megabytes of memory.
const MOST_WORKERS: usize = 8;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    /// How many bytes of the file it is.
    pub(crate) size: u32,
    /// How many it has in the pack: as many, and the same, where compression saves nothing.
    pub(crate) stored: u32,
}

/// A content in a pack, extent behind extent.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pack: Arc<File>,
    at: u64,
    size: u64,
    digest: Digest,
    extents: Arc<[Extent]>,
}

impl Extent {
    pub(crate) fn is_compressed(self) -> bool {
        self.stored < self.size
    }

    /// How many blocks it takes.
    pub(crate) fn blocks(self) -> usize {
        blocks(self.stored)
    }
}

impl Packed {
    /// What lies in a pack from a place on.
    pub(crate) fn new(
        (pack, at): (&Arc<File>, u64),
        size: u64,
        digest: Digest,
        extents: Vec<Extent>,
    ) -> Self {
        Self { pack: Arc::clone(pack), at, size, digest, extents: extents.into() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Each of these extents as it is stored, in order.
    pub(crate) fn stored(
        &self,
        extents: Range<usize>,
        mut each: impl FnMut(Extent, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut at, mut buffer) = (self.at, Vec::new());
        for (number, extent) in self.extents.iter().enumerate() {
            if extents.contains(&number) {
                buffer.resize(usize_of(extent.stored), 0);
                self.pack.read_exact_at(&mut buffer, at)?;
                each(*extent, &buffer)?;
            }
            at = at.saturating_add(extent.stored.into());
        }
        Ok(())
    }
}

/// What a reader has unpacked of a content: one extent.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Which extent comes next, and where that begins: in the content, and in the pack.
    next: usize,
    start: u64,
    stored: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// What the content has from `at` on; nothing at its end.
    pub(super) fn at(&mut self, packed: &Packed, at: u64) -> io::Result<&[u8]> {
        if at < self.start.saturating_sub(self.bytes.len() as u64) {
            *self = Self::default();
        }
        while at >= self.start
            && let Some(extent) = packed.extents.get(self.next)
        {
            let (size, next) = (usize_of(extent.size), self.start.saturating_add(extent.size.into()));
            self.bytes.clear();
            if at < next {
                self.bytes.resize(size, 0);
                self.unpack(packed, *extent)?;
            }
            self.next = self.next.saturating_add(1);
            (self.start, self.stored) = (next, self.stored.saturating_add(extent.stored.into()));
        }
        let begin = self.start.saturating_sub(self.bytes.len() as u64);
        let skipped = usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skipped..).unwrap_or_default())
    }

    fn unpack(&mut self, packed: &Packed, extent: Extent) -> io::Result<()> {
        let place = packed.at.saturating_add(self.stored);
        if !extent.is_compressed() {
            return packed.pack.read_exact_at(&mut self.bytes, place);
        }
        let mut stored = vec![0; usize_of(extent.stored)];
        packed.pack.read_exact_at(&mut stored, place)?;
        match lz4::decompress(&stored, &mut self.bytes) {
            Ok(count) if count == self.bytes.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an extent cannot be unpacked")),
        }
    }
}

/// Packs what is not packed yet of a tree, on all processors, into a file that has nothing else in it.
pub(crate) fn pack(tree: &mut Tree, pack: File) -> io::Result<()> {
    let mut known = BTreeSet::new();
    let unpacked = tree.contents().filter(|content| !matches!(content, Content::Packed(_)));
    let mut contents: Vec<_> = unpacked.filter(|content| known.insert(content.digest())).cloned().collect();
    // The largest first, so that none of the processors has a long one left at the end.
    contents.sort_by_key(|content| std::cmp::Reverse(content.size()));
    let pack = Arc::new(pack);
    let packed = all(&contents, &pack)?;
    tree.replace_contents(|content| packed.get(&content.digest()).cloned().map(Content::Packed));
    Ok(())
}

fn all(contents: &[Content], pack: &Arc<File>) -> io::Result<HashMap<Digest, Packed>> {
    let (next, packed) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    // No content takes more in the pack than it has; what it does not take is a hole there.
    let places: Vec<u64> = contents
        .iter()
        .scan(0_u64, |end, content| {
            let at = *end;
            *end = end.saturating_add(content.size());
            Some(at)
        })
        .collect();
    let work = || -> io::Result<()> {
        let mut packer = Packer::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (Some(content), Some(&at)) = (contents.get(number), places.get(number)) else {
                return Ok(());
            };
            let extents = packer.pack(content.reader(), (pack, at))?;
            let (size, digest) = (content.size(), content.digest());
            let one = Packed::new((pack, at), size, digest, extents);
            packed.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, one);
        }
    };
    let workers =
        thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS).min(contents.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
        joined.collect::<io::Result<()>>()
    })?;
    Ok(packed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One processor's.
struct Packer {
    /// What was read of the content, and how much of that is done.
    window: Vec<u8>,
    done: usize,
    compressed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        Self { window: Vec::with_capacity(2 * LONGEST), done: 0, compressed: vec![0; LARGEST * BLOCK] }
    }
}

impl Packer {
    /// Cuts and compresses a content, and writes it from `at` on.
    fn pack(&mut self, mut from: impl Read, (pack, mut at): (&File, u64)) -> io::Result<Vec<Extent>> {
        // Where in a block the next extent begins is all that counts of it.
        let (mut extents, mut start) = (Vec::new(), 0_u32);
        self.window.clear();
        self.done = 0;
        loop {
            self.fill(&mut from)?;
            if self.next().is_empty() {
                return Ok(extents);
            }
            let (size, stored) = self.compress();
            let bytes = if stored < size {
                self.compressed.get(..usize_of(stored))
            } else {
                self.next().get(..usize_of(size))
            };
            pack.write_all_at(bytes.unwrap_or_default(), at)?;
            if stored < size {
                extents.push(Extent { size, stored });
            } else {
                plain(&mut extents, start, size, usize_of(size) == self.next().len());
            }
            start = start.wrapping_add(size);
            at = at.saturating_add(stored.into());
            self.done = self.done.saturating_add(usize_of(size));
        }
    }

    /// At least as much as an extent may have, or all that is left.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        if self.next().len() < LONGEST {
            self.window.drain(..self.done);
            self.done = 0;
            let room = (2 * LONGEST).saturating_sub(self.window.len());
            from.take(room as u64).read_to_end(&mut self.window)?;
        }
        Ok(())
    }

    /// What the next extent may be of.
    fn next(&self) -> &[u8] {
        next_of(&self.window, self.done)
    }

    /// How much of that the next extent is, and how much it is when it is compressed. Where that saves no block, what was tried
    /// is left as it is, in whole blocks: data that does not compress is tried once.
    fn compress(&mut self) -> (u32, u32) {
        let short = |size: usize| u32::try_from(size).unwrap_or_default();
        let next = next_of(&self.window, self.done);
        let tried = match lz4_hc::compress_fill(next, &mut self.compressed, LEVEL) {
            Ok((size, stored)) if stored.div_ceil(BLOCK) < size.div_ceil(BLOCK) => {
                return (short(size), short(stored));
            }
            Ok((size, _)) => size,
            Err(_) => 0,
        };
        let whole = if tried < next.len() {
            (tried / BLOCK).max(1).saturating_mul(BLOCK).min(next.len())
        } else {
            tried
        };
        (short(whole), short(whole))
    }
}

fn next_of(window: &[u8], done: usize) -> &[u8] {
    let rest = window.get(done..).unwrap_or_default();
    rest.get(..LONGEST).unwrap_or(rest)
}

/// What is not compressed is an extent for each block. The last of a file ends in the block of the file that it begins in, for
/// Linux takes it to be as long as the blocks that it lies in (`z_erofs_do_map_blocks`).
fn plain(extents: &mut Vec<Extent>, mut start: u32, mut size: u32, is_end: bool) {
    const WHOLE: u32 = 4096;
    const { assert!(WHOLE as usize == BLOCK) };
    while size > 0 {
        let room = WHOLE.saturating_sub(start % WHOLE);
        let one = if is_end && size <= WHOLE { size.min(room) } else { WHOLE };
        extents.push(Extent { size: one, stored: one });
        (start, size) = (start.wrapping_add(one), size.saturating_sub(one));
    }
}

fn blocks(bytes: u32) -> usize {
    usize_of(bytes).div_ceil(BLOCK)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn panicked() -> io::Error {
    io::Error::other("a thread that compresses has panicked")
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;
    use crate::rootfs::Entry;

    /// Bytes that nothing compresses.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| next()).collect();
        bytes.truncate(count);
        bytes
    }

    fn packed(bytes: &[u8]) -> Packed {
        let mut tree = Tree::default();
        tree.put("x", Entry::file(0o644, bytes));
        pack(&mut tree, tempfile::tempfile().unwrap()).unwrap();
        match tree.file("x") {
            Some(Content::Packed(packed)) => packed.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn mixed() -> Vec<u8> {
        [vec![0; 100_000], noise(30_001), vec![7; 1_200_000], noise(4_096), b"end".to_vec()].concat()
    }

    #[test]
    fn what_is_packed_is_read_again_from_anywhere() {
        let text: Vec<u8> = (0..90_000_u32).flat_map(|at| format!("{at} ").into_bytes()).collect();
        for bytes in [vec![], b"x".to_vec(), noise(5_000), noise(300_000), vec![0; 600_000], text, mixed()] {
            let content = Content::Packed(packed(&bytes));
            assert_eq!(content.size(), bytes.len() as u64);
            assert_eq!(content, Content::from(bytes.clone()));
            let mut all = Vec::new();
            content.reader().read_to_end(&mut all).unwrap();
            assert!(all == bytes, "{} bytes", bytes.len());
            let mut reader = content.reader();
            for at in [bytes.len() / 2, 0, bytes.len().saturating_sub(3), bytes.len() / 3, bytes.len()] {
                reader.seek(SeekFrom::Start(at as u64)).unwrap();
                let mut part = vec![0; (bytes.len() - at).min(5_000)];
                reader.read_exact(&mut part).unwrap();
                assert!(part == bytes[at..at + part.len()], "at {at} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn extents_are_as_the_image_can_have_them() {
        // Of the second, a whole block is left, and begins within one.
        let crossing = |count| [vec![4; 30_000], noise(count)].concat();
        for bytes in [
            noise(70_000),
            mixed(),
            crossing(63_000),
            crossing(69_254),
            vec![1; 4_097],
            vec![2; 4_096],
            vec![3; 2_000_000],
        ] {
            let packed = packed(&bytes);
            let extents = packed.extents();
            assert_eq!(extents.iter().map(|extent| u64::from(extent.size)).sum::<u64>(), packed.size);
            let (last, mut start) = (extents.len() - 1, 0);
            for (number, extent) in extents.iter().enumerate() {
                let end = start + usize_of(extent.size);
                assert!((1..=LARGEST).contains(&extent.blocks()), "{extent:?}");
                assert!(usize_of(extent.size) <= LONGEST, "{extent:?}");
                if extent.is_compressed() {
                    assert!(extent.blocks() < blocks(extent.size), "{extent:?} saves nothing");
                } else {
                    let is_whole = usize_of(extent.size) == BLOCK;
                    assert!(is_whole || number + 1 >= last, "{extent:?} is {number} of {last}");
                    let ends_there = start / BLOCK == (end - 1) / BLOCK;
                    assert!(ends_there || (is_whole && number < last), "the last {extent:?} from {start} on");
                }
                start = end;
            }
        }
        assert!(packed(&noise(70_000)).extents().iter().all(|extent| !extent.is_compressed()));
        let zeros = packed(&vec![0; 2_000_000]);
        assert_eq!(zeros.extents().iter().map(|extent| extent.blocks()).sum::<usize>(), 3);
        let all = mixed();
        let blocks: usize = packed(&all).extents().iter().map(|extent| extent.blocks()).sum();
        assert!((9..16).contains(&blocks), "{blocks} blocks of {}", all.len());
    }

    #[test]
    fn the_same_content_is_packed_once_and_the_same_each_time() {
        let mut tree = Tree::default();
        for (path, bytes) in [("a", noise(9_000)), ("b", noise(9_000)), ("c", noise(8_000)), ("d", vec![])] {
            tree.put(path, Entry::file(0o644, bytes));
        }
        pack(&mut tree, tempfile::tempfile().unwrap()).unwrap();
        let place = |path: &str| match tree.file(path) {
            Some(Content::Packed(packed)) => (packed.at, packed.size),
            other => panic!("{other:?}"),
        };
        assert_eq!(place("a"), place("b"));
        assert_ne!(place("a").0, place("c").0);
        let before = mixed();
        assert_eq!(packed(&before).extents(), packed(&before).extents());
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let packed = packed(&mixed());
        packed.pack.set_len(1_000).unwrap();
        let mut all = Vec::new();
        Content::Packed(packed).reader().read_to_end(&mut all).unwrap_err();
    }
}
