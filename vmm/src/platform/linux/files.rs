//! Files: their locks, and holes in them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, fcntl_lock, flock};
use rustix::io::retry_on_intr;

/// Locks a whole file for as long as this opening of it is open, against every other one: for itself alone, or together
/// with others that only read. QEMU's locks are of the same kind, and are heeded as ours are by it.
pub(crate) fn lock(file: &File, is_exclusive: bool) -> io::Result<()> {
    let kind = if is_exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    // SAFETY: all bits zero are a valid value: from the start of the file to wherever it ends.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    uninterrupted(|| {
        // SAFETY: the structure is valid, and the call reads nothing else.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Makes a call again for as long as signals end it: one may come while a lock is being taken.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Keeps a disk for a machine of ours, in another process, that will [`lock`] it: against programs that use `flock`, as this
/// does, and against those that lock ranges of the file, as QEMU does. The second lock is given back at once, since that
/// machine wants it.
pub fn reserve(file: &File) -> io::Result<()> {
    Ok(reserve_by(|how| flock(file, how), |how| fcntl_lock(file, how))?)
}

fn reserve_by(
    mut whole: impl FnMut(FlockOperation) -> rustix::io::Result<()>,
    mut ranges: impl FnMut(FlockOperation) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    retry_on_intr(|| whole(FlockOperation::NonBlockingLockExclusive))?;
    retry_on_intr(|| ranges(FlockOperation::NonBlockingLockExclusive))?;
    retry_on_intr(|| ranges(FlockOperation::Unlock))
}

/// Major and minor number of a device, as a file's metadata has them.
#[must_use]
pub fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// Gives what stores this part of a file back to the host: zeroes are read there afterwards.
pub(crate) fn punch_hole(file: &File, range: Range<u64>) -> rustix::io::Result<()> {
    allocate(file, FallocateFlags::PUNCH_HOLE, range)
}

/// Makes this part of a file zero and keeps the room for it.
pub(crate) fn zero_range(file: &File, range: Range<u64>) -> rustix::io::Result<()> {
    allocate(file, FallocateFlags::ZERO_RANGE, range)
}

fn allocate(file: &File, what: FallocateFlags, range: Range<u64>) -> rustix::io::Result<()> {
    let length = range.end.saturating_sub(range.start);
    fallocate(file, what | FallocateFlags::KEEP_SIZE, range.start, length)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_call_that_a_signal_ends_is_made_again() {
        // Cloud Hypervisor #8402: a lock that could not be taken for a signal was an error.
        let mut errors = vec![libc::EACCES, libc::EINTR, libc::EINTR];
        let mut call = || errors.pop().map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)));
        let error = uninterrupted(&mut call).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        uninterrupted(&mut call).unwrap();
    }

    #[test]
    fn a_disk_is_reserved_whatever_signals_come() {
        const TAKE: FlockOperation = FlockOperation::NonBlockingLockExclusive;
        // Each call is ended by a signal once.
        let calls = RefCell::new(Vec::new());
        let call = |what, how| {
            let is_first = !calls.borrow().contains(&(what, how));
            calls.borrow_mut().push((what, how));
            if is_first { Err(Errno::INTR) } else { Ok(()) }
        };
        reserve_by(|how| call("whole", how), |how| call("ranges", how)).unwrap();
        let each = [("whole", TAKE), ("ranges", TAKE), ("ranges", FlockOperation::Unlock)];
        assert_eq!(calls.into_inner(), each.map(|call| [call; 2]).concat());
        // What another one has is no signal's doing.
        let taken = reserve_by(|_| Err(Errno::WOULDBLOCK), |_| panic!("it is not ours"));
        assert_eq!(taken, Err(Errno::WOULDBLOCK));
    }
}
