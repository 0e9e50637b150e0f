//! A disk with a table of partitions (UEFI 2.10, 5.3): the firmware's, with the program, and the root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{self, Type};
use uuid::Uuid;

use super::{EfiError, id, make};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// What is on a disk.
pub(super) struct Disk<'a> {
    pub(super) boot: &'a Path,
    pub(super) root: &'a Path,
    /// By which the kernel finds the root.
    pub(super) root_id: Uuid,
    pub(super) size_mib: Option<u32>,
}

impl Disk<'_> {
    /// Writes it as an image; what of that may be anything but zeros.
    pub(super) fn write(&self, image: &Path) -> Result<Vec<Range<u64>>, EfiError> {
        let failed = || make("the disk");
        let length = |path| super::super::size(path).map_err(failed());
        // Partitions begin at whole MiB, as every tool has it; the table has the first, and its copy the last.
        let boot = MIB..MIB.saturating_add(length(self.boot)?);
        let root = boot.end.next_multiple_of(MIB);
        let root = root..root.saturating_add(length(self.root)?);
        let needed = root.end.next_multiple_of(MIB).saturating_add(MIB);
        let size = match self.size_mib {
            None => needed,
            Some(size_mib) => match u64::from(size_mib).saturating_mul(MIB) {
                size if size >= needed => size,
                _ => return Err(EfiError::Small { size_mib, needed_mib: needed / MIB }),
            },
        };
        self.fill(image, size, &boot, &root).map_err(failed())?;
        Ok(vec![0..root.end, size.saturating_sub(MIB)..size])
    }

    fn fill(&self, image: &Path, size: u64, boot: &Range<u64>, root: &Range<u64>) -> io::Result<()> {
        let mut file = File::options().read(true).write(true).create_new(true).open(image)?;
        file.set_len(size)?;
        let [disk, boot_id] = ["disk", "boot"].map(|of| id(of, &[self.boot, self.root]));
        let partitions = [
            (1, partition("boot", partition_types::EFI, boot_id?, boot)),
            (2, partition("root", partition_types::LINUX_FS, self.root_id, root)),
        ];
        write_table(&mut file, size, disk?, partitions.into())?;
        for (from, place) in [(self.boot, boot), (self.root, root)] {
            copy_sparse(&mut File::open(from)?, &mut file, place.start)?;
        }
        file.flush()
    }
}

fn partition(name: &str, kind: Type, id: Uuid, place: &Range<u64>) -> Partition {
    Partition {
        part_type_guid: kind,
        part_guid: id,
        first_lba: place.start / SECTOR,
        last_lba: place.end.div_ceil(SECTOR).saturating_sub(1),
        flags: 0,
        name: name.to_owned(),
    }
}

fn write_table(file: &mut File, size: u64, id: Uuid, partitions: BTreeMap<u32, Partition>) -> io::Result<()> {
    // As many sectors as the oldest table can say.
    let sectors = u32::try_from((size / SECTOR).saturating_sub(1)).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(file).map_err(io::Error::other)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file, Some(id)).map_err(io::Error::other)?;
    table.update_partitions(partitions).map_err(io::Error::other)?;
    table.write().map_err(io::Error::other)?;
    Ok(())
}

/// Copies what is not zeros: a disk has room for what it does not hold.
fn copy_sparse(from: &mut impl Read, to: &mut File, mut at: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = read_full(from, &mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
        if part.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(part)?;
        }
        at = at.saturating_add(count as u64);
    }
}

/// As much as there is, up to a whole buffer.
pub(super) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0_usize;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => have = have.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A disk with a boot partition of 3 MiB and an odd root, and what may be anything but zeros on it.
    fn written(size_mib: Option<u32>) -> Result<(Vec<u8>, Vec<Range<u64>>), EfiError> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("boot"), vec![1; 3 << 20]).unwrap();
        fs::write(path("root"), vec![2; 5000]).unwrap();
        let (boot, root) = (path("boot"), path("root"));
        let disk = Disk { boot: &boot, root: &root, root_id: Uuid::from_u128(5), size_mib };
        let extents = disk.write(&path("disk"))?;
        Ok((fs::read(path("disk")).unwrap(), extents))
    }

    #[test]
    fn both_partitions_are_where_the_table_says() {
        let (bytes, _) = written(None).unwrap();
        assert_eq!(bytes.len(), 6 << 20);
        let table = GptConfig::new().open_from_device(io::Cursor::new(bytes.clone())).unwrap();
        let partitions: Vec<_> = table.partitions().values().collect();
        let [boot, root] = partitions.as_slice() else { panic!("{partitions:?}") };
        assert_eq!((boot.part_type_guid.clone(), boot.first_lba), (partition_types::EFI, 2048));
        assert_eq!((root.part_guid, root.first_lba, root.last_lba), (Uuid::from_u128(5), 8192, 8201));
        assert_eq!(bytes[4 << 20..][..5001], [[2; 5000].as_slice(), &[0]].concat());
        assert_eq!(bytes, written(None).unwrap().0, "it is the same each time");
    }

    #[test]
    fn a_disk_is_as_large_as_asked_and_never_too_small() {
        let (bytes, extents) = written(Some(16)).unwrap();
        assert_eq!(bytes.len(), 16 << 20);
        assert!(GptConfig::new().open_from_device(io::Cursor::new(bytes.clone())).is_ok());
        let outside = |at: &usize| !extents.iter().any(|extent| extent.contains(&(*at as u64)));
        assert!((0..bytes.len()).filter(outside).all(|at| bytes[at] == 0));
        let error = written(Some(5)).unwrap_err().to_string();
        assert_eq!(error, "a disk of 5 MiB is too small; it takes 6");
    }
}
