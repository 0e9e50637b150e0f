//! A disk as QEMU stores it, without what is zeros (QEMU, docs/interop/qcow2.rst, version 3).
//!
//! What is in the file comes in the order in which it is known: header, places of the second tables, for each half
//! gigabyte its clusters and then the table of them, and at the end how often each cluster is used: once.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::disk::read_full;

const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of 8 bytes in a cluster, which is a table of the second level.
const ENTRIES: u64 = CLUSTER / 8;
/// Of a cluster that is used once.
const COPIED: u64 = 1 << 63;
/// The number of a reference count's bits is two to this power.
const REFERENCE_ORDER: u32 = 4;
/// Reference counts in a cluster.
const REFERENCES: u64 = CLUSTER * 8 / (1 << REFERENCE_ORDER);
const HEADER: u32 = 104;

/// Converts an image, of which everything outside of `extents` is zeros.
pub(super) fn convert(raw: &Path, extents: &[Range<u64>], to: &Path) -> io::Result<()> {
    let mut raw = File::open(raw)?;
    let size = raw.metadata()?.len();
    let first_table = vec![0; usize::try_from(size.div_ceil(CLUSTER.saturating_mul(ENTRIES))).unwrap_or(0)];
    // The header has the first cluster, the table of reference counts the second.
    let clusters = (first_table.len() as u64).div_ceil(ENTRIES);
    let mut image = Image { to: BufWriter::new(File::create(to)?), next: 2, first_table, second: None };
    image.next = image.next.saturating_add(clusters);
    image.to.seek(SeekFrom::Start(image.next.saturating_mul(CLUSTER)))?;
    let mut buffer = vec![0; usize::try_from(CLUSTER).unwrap_or(0)];
    for cluster in clusters_of(extents) {
        raw.seek(SeekFrom::Start(cluster.saturating_mul(CLUSTER)))?;
        buffer.fill(0);
        read_full(&mut raw, &mut buffer)?;
        if buffer.iter().any(|byte| *byte != 0) {
            image.add(cluster, &buffer)?;
        }
    }
    image.finish(size)
}

/// All clusters of some places, in order and each once.
fn clusters_of(extents: &[Range<u64>]) -> Vec<u64> {
    let clusters = |extent: &Range<u64>| extent.start / CLUSTER..extent.end.div_ceil(CLUSTER);
    let mut all: Vec<_> = extents.iter().flat_map(clusters).collect();
    all.sort_unstable();
    all.dedup();
    all
}

struct Image<W: Write + Seek> {
    to: W,
    /// The cluster that is written next.
    next: u64,
    /// Where each table of the second level lies.
    first_table: Vec<u64>,
    /// The table that is being filled, and its number.
    second: Option<(u64, Vec<u64>)>,
}

impl<W: Write + Seek> Image<W> {
    fn add(&mut self, cluster: u64, content: &[u8]) -> io::Result<()> {
        let number = cluster / ENTRIES;
        if self.second.as_ref().is_some_and(|(current, _)| *current != number) {
            self.end_table()?;
        }
        let place = self.put(content)?;
        let empty = || (number, vec![0; usize::try_from(ENTRIES).unwrap_or(0)]);
        let (_, table) = self.second.get_or_insert_with(empty);
        set(table, cluster % ENTRIES, place);
        Ok(())
    }

    fn end_table(&mut self) -> io::Result<()> {
        let Some((number, table)) = self.second.take() else { return Ok(()) };
        let place = self.put(&big_endian(&table))?;
        set(&mut self.first_table, number, place);
        Ok(())
    }

    /// Writes one cluster; its place, as tables have it.
    fn put(&mut self, content: &[u8]) -> io::Result<u64> {
        self.to.write_all(content)?;
        let place = self.next.saturating_mul(CLUSTER);
        self.next = self.next.saturating_add(1);
        Ok(place | COPIED)
    }

    fn finish(mut self, size: u64) -> io::Result<()> {
        self.end_table()?;
        // The counts are counted, too.
        let (first, used) = (self.next, self.next);
        let mut blocks = 0_u64;
        while blocks.saturating_mul(REFERENCES) < used.saturating_add(blocks) {
            blocks = blocks.saturating_add(1);
        }
        let used = used.saturating_add(blocks);
        for block in 0..blocks {
            let counted = used.saturating_sub(block.saturating_mul(REFERENCES)).min(REFERENCES);
            let ones = usize::try_from(counted).unwrap_or(0);
            let mut counts = 1_u16.to_be_bytes().repeat(ones);
            counts.resize(usize::try_from(CLUSTER).unwrap_or(0), 0);
            self.put(&counts)?;
        }
        let places: Vec<_> = (first..used).map(|cluster| cluster.saturating_mul(CLUSTER)).collect();
        self.to.seek(SeekFrom::Start(CLUSTER))?;
        self.to.write_all(&big_endian(&places))?;
        self.to.seek(SeekFrom::Start(CLUSTER * 2))?;
        self.to.write_all(&big_endian(&self.first_table))?;
        self.to.seek(SeekFrom::Start(0))?;
        self.write_header(size)?;
        self.to.flush()
    }

    fn write_header(&mut self, size: u64) -> io::Result<()> {
        let first_entries = u32::try_from(self.first_table.len()).unwrap_or(u32::MAX);
        let short = |number: u32| number.to_be_bytes().to_vec();
        let long = |number: u64| number.to_be_bytes().to_vec();
        let fields = [
            short(MAGIC),
            short(VERSION),
            // No backing file: its place and the length of its name.
            long(0),
            short(0),
            short(CLUSTER_BITS),
            long(size),
            // Not encrypted.
            short(0),
            short(first_entries),
            long(CLUSTER * 2),
            long(CLUSTER),
            // The clusters of the table of reference counts.
            short(1),
            // No snapshots: their number and place.
            short(0),
            long(0),
            // Features: incompatible, compatible, to be cleared.
            long(0),
            long(0),
            long(0),
            short(REFERENCE_ORDER),
            short(HEADER),
            // The end of the extensions.
            long(0),
        ];
        self.to.write_all(&fields.concat())
    }
}

fn set(table: &mut [u64], index: u64, value: u64) {
    if let Some(entry) = usize::try_from(index).ok().and_then(|index| table.get_mut(index)) {
        *entry = value;
    }
}

fn big_endian(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Reads an image as QEMU does.
    fn read(image: &[u8]) -> Vec<u8> {
        let long = |at: u64| {
            let at = usize::try_from(at).unwrap();
            u64::from_be_bytes(image[at..at + 8].try_into().unwrap())
        };
        let place = |entry: u64| entry & !COPIED;
        let size = long(24);
        let mut content = Vec::new();
        for cluster in 0..size.div_ceil(CLUSTER) {
            let table = place(long(long(40) + cluster / ENTRIES * 8));
            let entry = if table == 0 { 0 } else { place(long(table + cluster % ENTRIES * 8)) };
            let at = usize::try_from(entry).unwrap();
            let length = usize::try_from(CLUSTER).unwrap();
            content.extend(if at == 0 { vec![0; length] } else { image[at..at + length].to_vec() });
        }
        content.truncate(usize::try_from(size).unwrap());
        content
    }

    #[test]
    fn a_disk_comes_back_and_what_is_zeros_takes_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
        let size = 530_usize << 20;
        let file = File::create(&raw).unwrap();
        file.set_len(size as u64).unwrap();
        let places = [0_usize, 70_000, 512 << 20, size - 512];
        for place in places {
            std::os::unix::fs::FileExt::write_all_at(&file, &[9; 300], place as u64).unwrap();
        }
        let extents = [0..1 << 20, 500 << 20..size as u64];
        convert(&raw, &extents, &image).unwrap();
        let written = fs::read(&image).unwrap();
        // Header, counts and their table, two tables of two levels, four clusters.
        assert_eq!(written.len() as u64, CLUSTER * (1 + 2 + 1 + 2 + 4));
        assert!(read(&written) == fs::read(&raw).unwrap());
        // Every cluster of the file is used once, and no other.
        let counts = &written[written.len() - usize::try_from(CLUSTER).unwrap()..];
        let ones = counts.chunks(2).take_while(|count| **count == [0, 1]).count();
        assert_eq!(ones as u64 * CLUSTER, written.len() as u64);
        assert!(counts[ones * 2..].iter().all(|byte| *byte == 0));
    }
}
