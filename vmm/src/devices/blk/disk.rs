//! The file behind a disk. Every flush of the guest's is carried out: what it was told is durable, is.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::bitmap::BitmapSlice;

use super::queue::Storage;
use super::request::{SECTOR, Zeroes};
use crate::devices::chain::Buffers;
use crate::platform;

/// Bytes that one system call moves.
const AT_A_TIME: usize = 1 << 20;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot open the disk {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the disk {} is used by another machine; end that one (`fuser {}` shows it), or make a copy", .0.display(), .0.display())]
    Locked(PathBuf),
    #[error("the disk {} has {size} bytes, which is no whole number of sectors of 512", path.display())]
    Size { path: PathBuf, size: u64 },
}

/// A raw image. It is locked against every other machine for as long as it is open, unless all of them only read.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    name: String,
    size: u64,
    is_read_only: bool,
    no_room: Option<NoRoom>,
}

/// Is told, as a sentence, that the host has no room for what the guest writes.
struct NoRoom(Box<dyn Fn(String) + Send>);

impl fmt::Debug for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoRoom")
    }
}

impl Disk {
    pub fn open(path: &Path, is_read_only: bool) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(!is_read_only).open(path).map_err(failed)?;
        platform::lock(&file, !is_read_only).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied => DiskError::Locked(path.to_owned()),
            _ => failed(error),
        })?;
        let size = file.metadata().map_err(failed)?.len();
        if !size.is_multiple_of(SECTOR) {
            return Err(DiskError::Size { path: path.to_owned(), size });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, path: path.to_owned(), name, size, is_read_only, no_room: None })
    }

    pub(super) fn when_there_is_no_room(&mut self, tell: impl Fn(String) + Send + 'static) {
        self.no_room = Some(NoRoom(Box::new(tell)));
    }

    pub(super) fn sectors(&self) -> u64 {
        self.size / SECTOR
    }
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn read<B: BitmapSlice>(&self, at: u64, length: u64, into: &mut Buffers<'_, B>) -> io::Result<()> {
        move_all(at, length, into, |pieces, at| platform::read_at(&self.file, pieces, at))
    }

    fn write<B: BitmapSlice>(&self, at: u64, length: u64, from: &mut Buffers<'_, B>) -> io::Result<()> {
        move_all(at, length, from, |pieces, at| platform::write_at(&self.file, pieces, at))
    }

    fn flush(&self) -> io::Result<()> {
        if self.is_read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&self, start: u64, end: u64) -> io::Result<()> {
        punch(&self.file, start, end)
    }

    fn write_zeroes(&self, zeroes: &Zeroes) -> io::Result<()> {
        let (start, end) = (zeroes.range.start, zeroes.range.end);
        if zeroes.may_unmap {
            return punch(&self.file, start, end);
        }
        // Keeps the room. The host takes no range of nothing.
        let length = end.saturating_sub(start);
        if length == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, start, length) {
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes_by_hand(&self.file, start, end),
            other => Ok(other?),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn failed(&self, error: &io::Error) {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if let (true, Some(NoRoom(tell))) = (is_full, &self.no_room) {
            tell(format!(
                "the host could not write to the disk {}: {error}; make room there, then start the machine again",
                self.path.display()
            ));
        }
    }
}

fn punch(file: &File, start: u64, end: u64) -> io::Result<()> {
    let length = end.saturating_sub(start);
    if length == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, length) {
        // A file system without holes: the guest sees zeroes all the same.
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes_by_hand(file, start, end),
        other => Ok(other?),
    }
}

fn write_zeroes_by_hand(file: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let zeroes = vec![0; 64 * 1024];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(zeroes.len());
        file.write_all_at(zeroes.get(..length).unwrap_or_default(), at)?;
        at = at.saturating_add(length as u64);
    }
    Ok(())
}

/// Moves `length` bytes, however little a call moves.
fn move_all<B: BitmapSlice>(
    at: u64,
    length: u64,
    buffers: &mut Buffers<'_, B>,
    mut some: impl FnMut(&[vm_memory::VolatileSlice<'_, B>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut moved = 0;
    while moved < length {
        let left = usize::try_from(length.saturating_sub(moved)).unwrap_or(usize::MAX);
        match some(&buffers.rest(left.min(AT_A_TIME)), at.saturating_add(moved)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffers.skip(count);
                moved = moved.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn image(size: u64) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        std::fs::write(&path, vec![7; usize::try_from(size).unwrap()]).unwrap();
        (directory, path)
    }

    #[test]
    fn a_disk_has_one_machine_or_only_readers() {
        let (_directory, path) = image(4096);
        let writer = Disk::open(&path, false).unwrap();
        let error = Disk::open(&path, true).unwrap_err().to_string();
        assert!(error.contains("disk.raw is used by another machine; end that one"), "{error}");
        drop(writer);
        let _readers = [Disk::open(&path, true).unwrap(), Disk::open(&path, true).unwrap()];
        assert!(matches!(Disk::open(&path, false), Err(DiskError::Locked(_))));
    }

    #[test]
    fn a_size_that_is_no_number_of_sectors_is_refused() {
        let (_directory, path) = image(1000);
        assert!(Disk::open(&path, false).unwrap_err().to_string().contains("has 1000 bytes"));
    }

    #[test]
    fn a_host_without_room_says_so_and_other_errors_are_the_guests() {
        let (_directory, path) = image(4096);
        let mut disk = Disk::open(&path, false).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        disk.when_there_is_no_room(move |why| tell.send(why).unwrap());
        disk.failed(&io::ErrorKind::UnexpectedEof.into());
        disk.failed(&io::Error::from_raw_os_error(libc::ENOSPC));
        let why = told.recv().unwrap();
        assert!(
            why.contains("disk.raw: No space left on device") && why.contains("make room there"),
            "{why}"
        );
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn discarded_bytes_read_as_zeroes_and_take_no_room() {
        let (_directory, path) = image(1 << 20);
        let before = path.metadata().unwrap().blocks();
        let disk = Disk::open(&path, false).unwrap();
        disk.discard(4096, 1 << 19).unwrap();
        disk.write_zeroes(&Zeroes { range: 0..512, may_unmap: false }).unwrap();
        for may_unmap in [false, true] {
            disk.write_zeroes(&Zeroes { range: 512..512, may_unmap }).unwrap();
        }
        disk.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes[..512].iter().chain(&bytes[4096..1 << 19]).all(|byte| *byte == 0));
        assert!(bytes[512..4096].iter().chain(&bytes[1 << 19..]).all(|byte| *byte == 7));
        assert!(path.metadata().unwrap().blocks() < before, "the host has its blocks back");
    }
}
