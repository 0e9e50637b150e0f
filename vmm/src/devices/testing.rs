//! A driver for tests: one ring in guest memory, and buffers behind it; and a disk for it.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::blk::Disk;
use crate::memory::{self, Memory};
use crate::skip::left_out;

const SIZE: u16 = 16;
pub(crate) const DESCRIPTORS: u64 = 0x1000;
pub(crate) const AVAILABLE: u64 = 0x2000;
pub(crate) const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x1_0000;
pub(crate) const PAGES_APART: u64 = 16;
pub(crate) const MEMORY: u64 = 4 << 20;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A buffer of a chain: filled, or to be filled with so many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buffer<'a> {
    Filled(&'a [u8]),
    ToFill(u32),
}

/// A driver of one queue.
pub(crate) struct Driver {
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    sent: u16,
}

impl Driver {
    pub(crate) fn new() -> Self {
        let memory = memory::of_size(MEMORY);
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_desc_table_address(Some(DESCRIPTORS as u32), None);
        queue.set_avail_ring_address(Some(AVAILABLE as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_ready(true);
        Self { memory, queue, sent: 0 }
    }

    /// One whose available ring has its index where the used ring has its flags, which say whether kicks are wanted: so
    /// there is a chain while none are, and then there seems to be another.
    pub(crate) fn with_rings_over_each_other() -> Self {
        let mut driver = Self::new();
        driver.queue.set_avail_ring_address(Some(USED as u32 - 2), None);
        driver
    }

    /// Makes a chain available, the only one under way.
    pub(crate) fn send(&mut self, buffers: &[Buffer<'_>]) {
        self.send_from(0, buffers);
    }

    /// The same for one of several: its descriptors stand from this one on, and its buffers from the page
    /// [`PAGES_APART`] times that.
    pub(crate) fn send_from(&mut self, first: u16, buffers: &[Buffer<'_>]) {
        let mut address = BUFFERS + u64::from(first) * PAGES_APART * 0x1000;
        for (number, buffer) in (first..).zip(buffers) {
            let more = usize::from(number - first) + 1 < buffers.len();
            let (length, write) = match *buffer {
                Buffer::Filled(bytes) => {
                    self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
                    (bytes.len() as u32, 0)
                }
                Buffer::ToFill(length) => (length, WRITE),
            };
            let flags = write | if more { NEXT } else { 0 };
            self.descriptor(number, address, length, flags, number + 1);
            address += u64::from(length).next_multiple_of(0x1000).max(0x1000);
        }
        self.offer(first);
    }

    /// Makes chains of one buffer each available, to be filled with so many bytes; the buffers lie a page apart.
    pub(crate) fn offer_separately(&mut self, lengths: &[u32]) {
        for length in lengths {
            let number = self.sent % SIZE;
            self.descriptor(number, BUFFERS + u64::from(number) * 0x1000, *length, WRITE, 0);
            self.offer(number);
        }
    }

    pub(crate) fn descriptor(&self, number: u16, address: u64, length: u32, flags: u16, next: u16) {
        let bytes =
            [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        let at = DESCRIPTORS + u64::from(number) * 16;
        self.memory.write_slice(&bytes.concat(), GuestAddress(at)).unwrap();
    }

    /// Makes the chain that begins with this descriptor available.
    pub(crate) fn offer(&mut self, head: u16) {
        let at = AVAILABLE + 4 + u64::from(self.sent % SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.sent += 1;
        self.memory.write_obj(self.sent, GuestAddress(AVAILABLE + 2)).unwrap();
    }

    /// How many chains came back, and with how many bytes the last of them.
    pub(crate) fn used(&self) -> (u16, u32) {
        let count: u16 = self.memory.read_obj(GuestAddress(USED + 2)).unwrap();
        let last = USED + 4 + u64::from(count.wrapping_sub(1) % SIZE) * 8;
        (count, self.memory.read_obj(GuestAddress(last + 4)).unwrap())
    }

    /// The heads of the chains that came back, in their order; at most as many as the queue has entries.
    pub(crate) fn heads(&self) -> Vec<u32> {
        let head =
            |number: u16| self.memory.read_obj(GuestAddress(USED + 4 + u64::from(number) * 8)).unwrap();
        (0..self.used().0).map(head).collect()
    }

    /// What the buffer with this number of the last chain holds, counted in pages from the first.
    pub(crate) fn bytes(&self, page: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(BUFFERS + page * 0x1000)).unwrap();
        bytes
    }
}

/// A disk that is a pipe, and the pipe's other end: reads wait, and nothing can be made durable.
pub(crate) fn pipe_disk() -> (tempfile::TempDir, Disk, File) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name ends with a zero, and the call keeps nothing of it.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let pipe = File::options().read(true).write(true).open(&path).unwrap();
    let disk = Disk::open(&path, false).unwrap().of_size(4096);
    (directory, disk, pipe)
}

/// A disk whose reads end when something is written to the other end; none on a host that does one request after the other.
#[track_caller]
pub(crate) fn slow_disk() -> Option<(tempfile::TempDir, Disk, File)> {
    let (directory, disk, pipe) = pipe_disk();
    if disk.lacks().is_some() {
        left_out("io_uring");
        return None;
    }
    Some((directory, disk, pipe))
}
