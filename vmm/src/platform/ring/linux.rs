//! Linux: an io_uring that can do with its one file what a disk needs, and nothing else.
//!
//! The kernel works on guest memory after the call that asked for it has returned. So each request keeps what it names,
//! the memory and the list of its pieces, until the kernel has answered it; a ring that is dropped waits for all answers.
//! That a guest gives pages back meanwhile (balloon) harms nobody else: the mapping stays, and the kernel finds pages by
//! their addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};
use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
use rustix::fs::{Mode, OFlags, fcntl_getfl};
use vm_memory::GuestMemoryBackend;

use super::NoRing;
use crate::memory::{Memory, Span};

/// Requests under way at a time; there is room for twice as many answers, so that none waits in the kernel.
const ENTRIES: u32 = 256;
/// The file, in the ring's own table.
const FILE: Fixed = Fixed(0);

/// The ring of one file, for one thread at a time; any may wait for its answers. Readable when there are some.
pub(crate) struct Ring {
    ring: IoUring,
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
}

/// A request that the kernel has not answered.
struct UnderWay {
    /// What its caller knows it by.
    token: u16,
    _pieces: Pieces,
}

/// Pieces of guest memory, as the kernel takes them, and what keeps them mapped.
#[derive(Default)]
struct Pieces {
    list: Box<[libc::iovec]>,
    _memory: Option<Memory>,
}

// SAFETY: what the list points to is guest memory, which every thread may access and which is kept along with it.
unsafe impl Send for Pieces {}

impl Pieces {
    /// What is not there any more is left out, with all that follows.
    fn new(memory: &Memory, spans: &[Span]) -> Self {
        let piece = |span: &Span| {
            let slice = memory.get_slice(span.address, span.length).ok()?;
            Some(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
        };
        // A copy of the memory is another handle of the same mappings.
        Self { list: spans.iter().map_while(piece).collect(), _memory: Some(memory.clone()) }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }
}

/// Whether this host has them; tried out with a file that is always there.
pub fn try_out() -> Result<(), NoRing> {
    Ring::new(&File::open("/dev/null")?).map(drop)
}

impl Ring {
    /// It begins disabled, and works from when it is restricted: the calls that are used, on this file. Nobody may change
    /// that any more.
    pub(crate) fn new(file: &File) -> Result<Self, NoRing> {
        let ring = IoUring::builder().setup_r_disabled().build(ENTRIES).map_err(missing)?;
        let submitter = ring.submitter();
        // The kernel takes rings down some time after their process has ended. A lock of `file` would last as long.
        let file = open_anew(file)?;
        submitter.register_files(&[file.as_raw_fd()])?;
        let fixed = Flags::FIXED_FILE.bits();
        let calls = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];
        let mut restrictions = Vec::from(calls.map(Restriction::sqe_op));
        restrictions.extend([Restriction::sqe_flags_required(fixed), Restriction::sqe_flags_allowed(fixed)]);
        submitter.register_restrictions(&mut restrictions)?;
        submitter.register_enable_rings()?;
        Ok(Self { ring, under_way: BTreeMap::new(), next: 0 })
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// From `at` of the file into memory.
    pub(crate) fn read(&mut self, token: u16, memory: &Memory, into: &[Span], at: u64) -> io::Result<()> {
        let pieces = Pieces::new(memory, into);
        let entry = opcode::Readv::new(FILE, pieces.list.as_ptr(), pieces.count()).offset(at).build();
        self.begin(token, &entry, pieces)
    }

    /// From memory to the file, from `at` on.
    pub(crate) fn write(&mut self, token: u16, memory: &Memory, from: &[Span], at: u64) -> io::Result<()> {
        let pieces = Pieces::new(memory, from);
        let entry = opcode::Writev::new(FILE, pieces.list.as_ptr(), pieces.count()).offset(at).build();
        self.begin(token, &entry, pieces)
    }

    /// What was answered before this begins is durable when it is answered.
    pub(crate) fn sync_data(&mut self, token: u16) -> io::Result<()> {
        let entry = opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build();
        self.begin(token, &entry, Pieces::default())
    }

    pub(crate) fn punch_hole(&mut self, token: u16, range: Range<u64>) -> io::Result<()> {
        self.allocate(token, FALLOC_FL_PUNCH_HOLE, range)
    }

    pub(crate) fn zero_range(&mut self, token: u16, range: Range<u64>) -> io::Result<()> {
        self.allocate(token, FALLOC_FL_ZERO_RANGE, range)
    }

    fn allocate(&mut self, token: u16, how: i32, range: Range<u64>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start);
        let call = opcode::Fallocate::new(FILE, length).offset(range.start);
        self.begin(token, &call.mode(how | FALLOC_FL_KEEP_SIZE).build(), Pieces::default())
    }

    /// The kernel hears of it when the ring is asked for answers.
    fn begin(&mut self, token: u16, entry: &Entry, pieces: Pieces) -> io::Result<()> {
        if self.under_way.len() >= ENTRIES as usize {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        // SAFETY: what the entry points to is `pieces`, which are kept until the kernel has answered, or for ever.
        unsafe { self.ring.submission().push(&entry.clone().user_data(number)) }.map_err(io::Error::other)?;
        self.under_way.insert(number, UnderWay { token, _pieces: pieces });
        Ok(())
    }

    /// A request that has ended, with how many bytes it has moved. After an error the ring is of no use.
    pub(crate) fn ended(&mut self) -> io::Result<Option<(u16, io::Result<usize>)>> {
        while !self.ring.submission().is_empty() {
            self.enter(0)?;
        }
        let Some(answer) = self.ring.completion().next() else { return Ok(None) };
        let Some(request) = self.under_way.remove(&answer.user_data()) else { return Ok(None) };
        let error = || io::Error::from_raw_os_error(answer.result().saturating_neg());
        Ok(Some((request.token, usize::try_from(answer.result()).map_err(|_| error()))))
    }

    /// Waits until a request has ended; whether there was one to wait for.
    pub(crate) fn wait(&mut self) -> io::Result<bool> {
        let is_any = !self.under_way.is_empty();
        if is_any {
            self.enter(1)?;
        }
        Ok(is_any)
    }

    /// Waits until all requests have ended, and forgets what came of them.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        while self.wait()? {
            while self.ended()?.is_some() {}
        }
        Ok(())
    }

    /// Hands over what was begun, and waits for so many answers; may return without either.
    fn enter(&self, answers: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(answers) {
            Ok(_) => Ok(()),
            // A kick of a vCPU, which may be what waits.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // The kernel is short of memory for a moment.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                std::thread::yield_now();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.drain().is_err() {
            // Nobody can say when the kernel is done with it.
            std::mem::forget(std::mem::take(&mut self.under_way));
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor, and lives as long as what is borrowed from it.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

/// The same file with the same rights, but as an opening of its own.
fn open_anew(file: &File) -> io::Result<File> {
    let rights = fcntl_getfl(file)? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(path, rights | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Why a ring that is disabled at first could not be made.
fn missing(error: io::Error) -> NoRing {
    match error.raw_os_error() {
        // The second knows rings, but not that.
        Some(libc::ENOSYS | libc::EINVAL) => NoRing::Unknown,
        Some(libc::EPERM | libc::EACCES) => NoRing::Forbidden,
        _ => NoRing::Failed(error),
    }
}

#[cfg(test)]
mod tests;
