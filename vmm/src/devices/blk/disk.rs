//! The file behind a disk. Every flush of the guest's is carried out: what it was told is durable, is.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::flight::Step;
use super::now;
use super::queues::Storage;
use super::request::SECTOR;
use crate::memory::Memory;
use crate::platform;
use crate::platform::ring::{NoRing, Ring};

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
    /// What carries steps out while this thread goes on; without it, each is done at once.
    ring: Result<Ring, NoRing>,
    /// Steps that have ended, beside those that the ring knows of.
    ended: VecDeque<(u16, io::Result<usize>)>,
    trouble: Option<Trouble>,
}

/// Is told, as a sentence, why the machine cannot go on with this disk.
struct Trouble(Box<dyn Fn(String) + Send>);

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trouble")
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
        let ring = Ring::new(&file);
        let ended = VecDeque::new();
        Ok(Self { file, path: path.to_owned(), name, size, is_read_only, ring, ended, trouble: None })
    }

    /// Does one request after the other, as on a host that has no io_uring.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.ring = Err(NoRing::Elsewhere);
        self
    }

    /// Why requests are done one after the other, where they are.
    #[must_use]
    pub fn lacks(&self) -> Option<&NoRing> {
        self.ring.as_ref().err()
    }

    /// For files whose own size says nothing.
    #[cfg(test)]
    pub(crate) fn of_size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    pub(super) fn tell_of_trouble(&mut self, tell: impl Fn(String) + Send + 'static) {
        self.trouble = Some(Trouble(Box::new(tell)));
    }

    /// Readable when steps have ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().ok().map(AsFd::as_fd)
    }

    /// Waits until nothing is under way, of which nobody will hear any more. From then on nothing touches the memory that
    /// was named.
    pub(super) fn forsake(&mut self) {
        if let Ok(ring) = &mut self.ring
            && let Err(error) = ring.drain()
        {
            self.break_off(&error);
        }
        self.ended.clear();
    }

    pub(super) fn sectors(&self) -> u64 {
        self.size / SECTOR
    }

    /// Nothing can be asked of the ring any more, and what was asked of it may still be under way.
    fn break_off(&self, error: &io::Error) {
        self.tell(format!("the host does no more for the disk {}: {error}", self.path.display()));
    }

    fn tell(&self, why: String) {
        if let Some(Trouble(tell)) = &self.trouble {
            tell(why);
        }
    }
}

impl Storage<Memory> for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&mut self, head: u16, step: &Step, memory: &Memory) {
        let begun = match (&mut self.ring, step) {
            (Err(_), _) | (_, Step::Fill(_)) => {
                return self.ended.push_back((head, now::carry_out(step, &self.file, memory)));
            }
            // Most writes are copies into the host's memory. The ring would take a thread of the kernel's for each, at
            // twice the price; that is worth it where a write that has to wait would hold others up.
            (Ok(ring), Step::Write { .. }) if ring.is_idle() => {
                return self.ended.push_back((head, now::carry_out(step, &self.file, memory)));
            }
            (Ok(ring), Step::Read { at, into }) => ring.read(head, memory, into, *at),
            (Ok(ring), Step::Write { at, from }) => ring.write(head, memory, from, *at),
            (Ok(ring), Step::Flush) => ring.sync_data(head),
            (Ok(ring), Step::Punch(range)) => ring.punch_hole(head, range.clone()),
            (Ok(ring), Step::Zero(range)) => ring.zero_range(head, range.clone()),
        };
        if let Err(error) = begun {
            self.ended.push_back((head, Err(error)));
        }
    }

    fn ended(&mut self) -> Option<(u16, io::Result<usize>)> {
        if let Some(ended) = self.ended.pop_front() {
            return Some(ended);
        }
        let ended = self.ring.as_mut().ok()?.ended();
        ended.unwrap_or_else(|error| {
            self.break_off(&error);
            None
        })
    }

    fn wait(&mut self) -> bool {
        let Ok(ring) = &mut self.ring else { return false };
        ring.wait().unwrap_or_else(|error| {
            self.break_off(&error);
            false
        })
    }

    fn failed(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.tell(format!(
                "the host could not write to the disk {}: {error}; make room there, then start the machine again",
                self.path.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
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
        disk.tell_of_trouble(move |why| tell.send(why).unwrap());
        disk.failed(&io::ErrorKind::UnexpectedEof.into());
        disk.failed(&io::Error::from_raw_os_error(libc::ENOSPC));
        let why = told.recv().unwrap();
        assert!(
            why.contains("disk.raw: No space left on device") && why.contains("make room there"),
            "{why}"
        );
        assert!(told.try_recv().is_err());
    }
}
