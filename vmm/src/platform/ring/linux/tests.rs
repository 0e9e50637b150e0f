//! The ring with this host's kernel.

use std::ffi::CString;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use io_uring::types::Fd;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory;
use crate::skip::left_out;

/// None where the host has no rings, which is said.
#[track_caller]
fn ring(file: &File) -> Option<Ring> {
    let ring = Ring::new(file).ok();
    if ring.is_none() {
        left_out("io_uring");
    }
    ring
}

fn span(address: u64, length: usize) -> Span {
    Span { address: GuestAddress(address), length }
}

/// Waits for the next that ends.
fn ended(ring: &mut Ring) -> (u16, io::Result<usize>) {
    loop {
        if let Some(ended) = ring.ended().unwrap() {
            return ended;
        }
        assert!(ring.wait().unwrap(), "something is under way");
    }
}

#[track_caller]
fn assert_moved(ring: &mut Ring, token: u16, bytes: usize) {
    let (ended, moved) = ended(ring);
    assert_eq!((ended, moved.unwrap()), (token, bytes));
}

#[test]
fn what_a_disk_needs_works() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[7; 16 << 10], 0).unwrap();
    let before = file.metadata().unwrap().blocks();
    let Some(mut ring) = ring(&file) else { return };
    let memory = memory::of_size(1 << 20);
    memory.write_slice(b"abcdefgh", GuestAddress(0x1000)).unwrap();
    ring.write(1, &memory, &[span(0x1004, 4), span(0x1000, 4)], 100).unwrap();
    assert_moved(&mut ring, 1, 8);
    ring.sync_data(2).unwrap();
    assert_moved(&mut ring, 2, 0);
    ring.read(3, &memory, &[span(0x2000, 3), span(0x3000, 7)], 99).unwrap();
    assert_moved(&mut ring, 3, 10);
    let mut read = [0; 10];
    memory.read_slice(&mut read[..3], GuestAddress(0x2000)).unwrap();
    memory.read_slice(&mut read[3..], GuestAddress(0x3000)).unwrap();
    assert_eq!(&read, b"\x07efghabcd\x07");
    ring.punch_hole(4, 4096..8192).unwrap();
    assert_moved(&mut ring, 4, 0);
    assert!(file.metadata().unwrap().blocks() < before);
    ring.zero_range(5, 12_288..16_384).unwrap();
    assert_moved(&mut ring, 5, 0);
    let mut bytes = vec![1; 16 << 10];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let is_zero = |at: usize| (4096..8192).contains(&at) || at >= 12_288;
    assert!(bytes.iter().enumerate().skip(4096).all(|(at, byte)| (*byte == 0) == is_zero(at)));
    ring.read(6, &memory, &[span(0x2000, 8), span(2 << 20, 8)], 0).unwrap();
    assert_moved(&mut ring, 6, 8);
    assert!(!ring.wait().unwrap() && ring.is_idle(), "there is no more to wait for");
}

#[test]
fn errors_are_those_of_the_calls() {
    let file = File::open("/dev/null").unwrap();
    let Some(mut ring) = ring(&file) else { return };
    let memory = memory::of_size(1 << 20);
    ring.write(1, &memory, &[span(0, 512)], 0).unwrap();
    let (token, error) = ended(&mut ring);
    assert_eq!((token, error.unwrap_err().raw_os_error()), (1, Some(libc::EBADF)), "it may only be read");
    for token in 0..256 {
        ring.sync_data(token).unwrap();
    }
    assert_eq!(ring.sync_data(256).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    ring.drain().unwrap();
    assert!(ring.is_idle());
}

/// Seccomp does not see what a ring is asked for: who has taken the thread over could open files with it.
#[test]
fn what_a_disk_does_not_need_is_refused_by_the_kernel() {
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    let path = CString::new("/etc/passwd").unwrap();
    let mut byte = 0;
    let entries = [
        opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build(),
        opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build(),
        opcode::Nop::new().build(),
        opcode::Read::new(FILE, &raw mut byte, 1).build(),
        // Of another file than its own.
        opcode::Readv::new(Fd(file.as_raw_fd()), std::ptr::null(), 0).build(),
        opcode::Fsync::new(Fd(file.as_raw_fd())).build(),
        // Before others, or in another thread.
        opcode::Fsync::new(FILE).build().flags(Flags::IO_LINK),
        opcode::Fsync::new(FILE).build().flags(Flags::ASYNC),
    ];
    for entry in entries {
        // SAFETY: what the entry points to lives until the kernel has answered, below.
        unsafe { ring.ring.submission().push(&entry) }.unwrap();
        ring.enter(1).unwrap();
        let answer = ring.ring.completion().next().expect("it is refused at once");
        assert_eq!(answer.result(), -libc::EACCES, "{entry:?}");
    }
    let submitter = ring.ring.submitter();
    for refused in [
        submitter.register_files_update(0, &[file.as_raw_fd()]).map(drop),
        submitter.unregister_files(),
        submitter.register_restrictions(&mut [Restriction::sqe_op(opcode::OpenAt::CODE)]),
    ] {
        let error = refused.unwrap_err().raw_os_error();
        assert!(matches!(error, Some(libc::EACCES | libc::EBADFD)), "{error:?}");
    }
    ring.sync_data(1).unwrap();
    assert_moved(&mut ring, 1, 0);
}

/// What the kernel still writes to is not given back. Of Cloud Hypervisor it was (CVE-2026-45782).
#[test]
fn a_ring_that_is_dropped_waits_and_keeps_the_memory_until_then() {
    let (file, mut other_end) = io::pipe().unwrap();
    let Some(mut ring) = ring(&File::from(std::os::fd::OwnedFd::from(file))) else { return };
    let memory = memory::of_size(1 << 20);
    let address = memory::regions(&memory)[0].1.addr().get();
    ring.read(1, &memory, &[span(0x1000, 512)], 0).unwrap();
    assert!(ring.ended().unwrap().is_none());
    drop(memory);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    assert!(ranges.into_iter().any(|(start, end)| (number(start)..number(end)).contains(&address)));
    let is_there = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            is_there.store(true, Ordering::Relaxed);
            other_end.write_all(&[7; 512]).unwrap();
        });
        drop(ring);
        assert!(is_there.load(Ordering::Relaxed));
    });
}

#[test]
fn pages_that_the_guest_gives_back_meanwhile_come_again() {
    let (file, mut other_end) = io::pipe().unwrap();
    let Some(mut ring) = ring(&File::from(std::os::fd::OwnedFd::from(file))) else { return };
    let memory = memory::of_size(1 << 20);
    ring.read(1, &memory, &[span(0x1000, 512)], 0).unwrap();
    assert!(ring.ended().unwrap().is_none());
    crate::platform::give_back(&memory.get_slice(GuestAddress(0), 1 << 20).unwrap());
    other_end.write_all(&[7; 512]).unwrap();
    assert_moved(&mut ring, 1, 512);
    let mut read = [0; 513];
    memory.read_slice(&mut read, GuestAddress(0x1000)).unwrap();
    assert_eq!(read, [&[7; 512][..], &[0]].concat()[..]);
}

/// The kernel takes a ring down later than it closes files.
#[test]
fn a_lock_of_the_file_ends_with_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    for _ in 0..100 {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        crate::platform::lock(&file, true).unwrap();
        let Some(ring) = ring(&file) else { return };
        drop((ring, file));
    }
}
