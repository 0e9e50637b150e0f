//! Room that is kept for the day when the data disk is full.
//!
//! The services write at their start, and without them nothing on the disk can be removed. So a file takes up some room
//! while there is enough, and makes place at the boot that finds the disk full.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

const NAME: &str = ".mvm-reserve";
/// What the services need to start, and to remove something.
const SIZE: u64 = 64 * 1024 * 1024;

/// What became of the reserve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Kept,
    /// Given up: the disk is full.
    Spent {
        free: u64,
        total: u64,
    },
}

/// Keeps the reserve where that leaves as much again, and gives it up otherwise.
pub(super) fn settle(disk: &Path) -> io::Result<State> {
    let file = disk.join(NAME);
    let kept = file.metadata().map_or(0, |found| found.len());
    let (free, total) = space(disk)?;
    let needed = SIZE.saturating_sub(kept).saturating_add(SIZE);
    if free >= needed {
        if kept < SIZE {
            keep(&file)?;
        }
        return Ok(State::Kept);
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (free, total) = space(disk).unwrap_or((free, total));
    Ok(State::Spent { free, total })
}

fn keep(file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
    // Blocks are taken, and nothing is written to them: the host stores none.
    fallocate(&file, FallocateFlags::empty(), 0, SIZE)?;
    Ok(())
}

/// Free and all bytes. Services run as root, for whom what the file system reserves counts as free.
fn space(disk: &Path) -> io::Result<(u64, u64)> {
    let found = statvfs(disk)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok((bytes(found.f_bfree), bytes(found.f_blocks)))
}

#[cfg(test)]
mod tests {
    use super::{NAME, SIZE, State, settle};

    #[test]
    fn kept_once_where_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(settle(directory.path()).unwrap(), State::Kept);
        assert_eq!(directory.path().join(NAME).metadata().unwrap().len(), SIZE);
        assert_eq!(settle(directory.path()).unwrap(), State::Kept);
    }
}
