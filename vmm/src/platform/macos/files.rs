//! Files: their locks, and holes in them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::{Errno, retry_on_intr};

use super::memory::last_error;
use crate::platform::blocks;

/// Locks a whole file for as long as this opening of it is open, against every other one: for itself alone, or together
/// with others that only read. `flock` stands against those that lock ranges of the file, too, as QEMU does.
pub(crate) fn lock(file: &File, is_exclusive: bool) -> io::Result<()> {
    let kind = if is_exclusive {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    Ok(retry_on_intr(|| flock(file, kind))?)
}

/// Keeps a disk for a machine of ours, in another process, that will [`lock`] it. All locks are of one kind here, so that one
/// that stayed would keep that machine out, too: it is given back at once.
pub fn reserve(file: &File) -> io::Result<()> {
    retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive))?;
    Ok(retry_on_intr(|| flock(file, FlockOperation::Unlock))?)
}

/// Major and minor number of a device, as a file's metadata has them: 32 bits, extended.
#[must_use]
pub fn device_numbers(device: u64) -> (u32, u32) {
    let [a, b, c, d, ..] = device.to_le_bytes();
    let device = i32::from_le_bytes([a, b, c, d]);
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// Gives what stores this part of a file back to the host: zeroes are read there afterwards. There are holes of whole blocks
/// only; what lies beside them is written.
pub(crate) fn punch_hole(file: &File, range: Range<u64>) -> rustix::io::Result<()> {
    let block = fstatfs(file)?.f_bsize;
    let blocks = blocks::whole(&range, block.into()).ok_or(Errno::OPNOTSUPP)?;
    punch(file, &blocks)?;
    write_zeroes(file, range.start..blocks.start)?;
    write_zeroes(file, blocks.end..range.end)
}

fn punch(file: &File, blocks: &Range<u64>) -> rustix::io::Result<()> {
    let number = |value: u64| i64::try_from(value).map_err(|_| Errno::INVAL);
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: number(blocks.start)?,
        fp_length: number(blocks.end.saturating_sub(blocks.start))?,
    };
    // SAFETY: the structure is valid, and the call reads nothing else.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } {
        -1 => Err(match last_error() {
            // A file system without holes; the two are one error elsewhere.
            Errno::NOTSUP => Errno::OPNOTSUPP,
            error => error,
        }),
        _ => Ok(()),
    }
}

/// Less than a block.
fn write_zeroes(file: &File, range: Range<u64>) -> rustix::io::Result<()> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| Errno::INVAL)?;
    let written = file.write_all_at(&vec![0; length], range.start);
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// There is no such call: the caller has to write them.
pub(crate) fn zero_range(_file: &File, _range: Range<u64>) -> rustix::io::Result<()> {
    Err(Errno::OPNOTSUPP)
}
