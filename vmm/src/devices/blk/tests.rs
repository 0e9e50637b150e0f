//! Disks of files, in both ways: with the kernel's queue, and one request after the other.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::slice::from_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::*;
use crate::devices::testing::{Buffer, Driver, PAGES_APART, pipe_disk, slow_disk};

struct Guest {
    driver: Driver,
    blk: Blk,
}

impl Guest {
    fn new(disk: Disk) -> Self {
        Self { driver: Driver::new(), blk: Blk::new(disk, |why| panic!("{why}")) }
    }

    fn serve(&mut self) {
        let queues = from_mut(&mut self.driver.queue);
        self.blk.process(&self.driver.memory, queues, Instant::now()).unwrap();
    }

    /// Has what is under way answered.
    fn settle(&mut self) {
        self.blk.settle(&self.driver.memory, from_mut(&mut self.driver.queue)).unwrap();
    }

    /// One request, to its end; the bytes that it has filled.
    fn request(&mut self, buffers: &[Buffer<'_>]) -> u32 {
        self.driver.send(buffers);
        self.serve();
        self.settle();
        self.driver.used().1
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// A test for each way, with a disk of 16 KiB in which each sector is filled with its number.
fn in_both_ways(test: impl Fn(&mut Guest, &Path)) {
    for one_by_one in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        std::fs::write(&path, (0..16_384_u32).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap();
        let disk = Disk::open(&path, false).unwrap();
        test(&mut Guest::new(if one_by_one { disk.one_by_one() } else { disk }), &path);
    }
}

#[test]
fn what_is_written_is_read_again_however_the_buffers_are_cut() {
    in_both_ways(|guest, path| {
        let data: Vec<u8> = (0..1024_u32).map(|at| (at % 251) as u8).collect();
        let write = header(VIRTIO_BLK_T_OUT, 3);
        let parts = [
            Buffer::Filled(&write),
            Buffer::Filled(&data[..100]),
            Buffer::Filled(&data[100..]),
            Buffer::ToFill(1),
        ];
        assert_eq!(guest.request(&parts), 1);
        assert_eq!(guest.driver.bytes(3, 1), [0], "its status");
        let read = header(VIRTIO_BLK_T_IN, 3);
        let parts = [Buffer::Filled(&read), Buffer::ToFill(700), Buffer::ToFill(325)];
        assert_eq!(guest.request(&parts), 1025);
        assert_eq!([guest.driver.bytes(1, 700), guest.driver.bytes(2, 324)].concat(), data);
        assert_eq!(guest.driver.bytes(2, 325)[324], 0, "its status is the last byte");
        let flush = header(VIRTIO_BLK_T_FLUSH, 0);
        assert_eq!(guest.request(&[Buffer::Filled(&flush), Buffer::ToFill(1)]), 1);
        assert_eq!(guest.driver.bytes(1, 1), [0]);
        assert_eq!(std::fs::read(path).unwrap()[1536..2560], data);
    });
}

/// On a pipe, which the host cannot make durable, and says so.
#[test]
fn a_flush_is_done_by_the_host_and_fails_when_the_host_cannot() {
    for one_by_one in [false, true] {
        let (_directory, disk, _pipe) = pipe_disk();
        let mut guest = Guest::new(if one_by_one { disk.one_by_one() } else { disk });
        let flush = header(VIRTIO_BLK_T_FLUSH, 0);
        assert_eq!(guest.request(&[Buffer::Filled(&flush), Buffer::ToFill(1)]), 1);
        assert_eq!(guest.driver.bytes(1, 1), [1], "one by one: {one_by_one}");
    }
}

/// Reads beside writes of the same content, five at a time.
#[test]
fn many_requests_under_way_come_back_each_with_its_own() {
    in_both_ways(|guest, _| {
        for round in 0..40_u16 {
            let sector = |number: u16| ((round * 7 + number * 5) % 32) as u8;
            for number in 0..5_u16 {
                let is_write = (round + number).is_multiple_of(3);
                let kind = if is_write { VIRTIO_BLK_T_OUT } else { VIRTIO_BLK_T_IN };
                let (header, data) = (header(kind, sector(number).into()), [sector(number); 512]);
                let data = if is_write { Buffer::Filled(&data) } else { Buffer::ToFill(512) };
                guest.driver.send_from(3 * number, &[Buffer::Filled(&header), data, Buffer::ToFill(1)]);
            }
            guest.serve();
            guest.settle();
            assert_eq!(guest.driver.used().0, 5 * (round + 1));
            for number in 0..5_u16 {
                let first = u64::from(3 * number) * PAGES_APART;
                assert_eq!(guest.driver.bytes(first + 1, 512), [sector(number); 512]);
                assert_eq!(guest.driver.bytes(first + 2, 1), [0]);
            }
        }
    });
}

#[test]
fn the_disk_has_a_name_and_holes() {
    in_both_ways(|guest, path| {
        let name = header(VIRTIO_BLK_T_GET_ID, 0);
        let filled = guest.request(&[Buffer::Filled(&name), Buffer::ToFill(20), Buffer::ToFill(1)]);
        assert_eq!((filled, guest.driver.bytes(1, 9)), (21, b"disk.raw\0".to_vec()));
        let mut clear = |kind: u32, sector: u64, flags: u32| {
            let range = [&sector.to_le_bytes()[..], &8_u32.to_le_bytes(), &flags.to_le_bytes()].concat();
            let header = header(kind, 0);
            guest.request(&[Buffer::Filled(&header), Buffer::Filled(&range), Buffer::ToFill(1)]);
            assert_eq!(guest.driver.bytes(2, 1), [0]);
        };
        let before = path.metadata().unwrap().blocks();
        clear(VIRTIO_BLK_T_DISCARD, 8, 0);
        clear(VIRTIO_BLK_T_WRITE_ZEROES, 16, 0);
        clear(VIRTIO_BLK_T_WRITE_ZEROES, 24, 1);
        let read = header(VIRTIO_BLK_T_IN, 8);
        guest.request(&[Buffer::Filled(&read), Buffer::ToFill(513)]);
        assert_eq!(guest.driver.bytes(1, 513), [0; 513]);
        let bytes = std::fs::read(path).unwrap();
        let expected = |at: usize| if at < 4096 { (at / 512) as u8 } else { 0 };
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert!(path.metadata().unwrap().blocks() < before, "the host has blocks back");
    });
}

#[test]
fn what_cannot_be_done_has_its_status_and_costs_nothing_else() {
    in_both_ways(|guest, path| {
        let status = |guest: &mut Guest, kind: u32, sector: u64, to_fill: u32| {
            let header = header(kind, sector);
            guest.request(&[Buffer::Filled(&header), Buffer::ToFill(to_fill)]);
            guest.driver.bytes(1, to_fill as usize).pop()
        };
        assert_eq!(status(guest, VIRTIO_BLK_T_IN, 32, 513), Some(1), "beyond the end");
        assert_eq!(status(guest, VIRTIO_BLK_T_IN, 0, 100), Some(1), "no whole sector");
        assert_eq!(status(guest, 99, 0, 1), Some(2), "not offered");
        assert_eq!(status(guest, VIRTIO_BLK_T_IN, 0, 513), Some(0), "the next one works");
        assert_eq!(guest.request(&[Buffer::Filled(b"short"), Buffer::ToFill(1)]), 1);
        let nobody = header(VIRTIO_BLK_T_IN, 0);
        assert_eq!(guest.request(&[Buffer::Filled(&nobody)]), 0, "nobody to answer");
        std::fs::File::options().write(true).open(path).unwrap().set_len(1024).unwrap();
        assert_eq!(status(guest, VIRTIO_BLK_T_IN, 1, 1025), Some(1), "the file became shorter under it");
        assert_eq!(status(guest, VIRTIO_BLK_T_IN, 1, 513), Some(0));
    });
}

/// A driver that resets its device uses the memory for something else from then on.
#[test]
fn a_reset_waits_for_what_was_asked_and_nobody_hears_of_it() {
    let Some((_directory, disk, mut pipe)) = slow_disk() else { return };
    let mut guest = Guest::new(disk);
    let read = header(VIRTIO_BLK_T_IN, 0);
    let parts = [Buffer::Filled(&read), Buffer::ToFill(513)];
    guest.driver.send(&parts);
    guest.serve();
    let is_there = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            is_there.store(true, Ordering::Relaxed);
            pipe.write_all(&[7; 512]).unwrap();
        });
        guest.blk.reset();
        assert!(is_there.load(Ordering::Relaxed), "it was still under way");
    });
    assert_eq!(
        guest.driver.bytes(1, 513),
        [&[7; 512][..], &[0]].concat(),
        "it has come, before the reset was over"
    );
    guest.serve();
    assert_eq!(guest.driver.used().0, 0);
    pipe.write_all(&[9; 512]).unwrap();
    guest.driver.send(&parts);
    guest.serve();
    guest.settle();
    assert_eq!(
        (guest.driver.used(), guest.driver.bytes(1, 512)),
        ((1, 513), vec![9; 512]),
        "the next driver's"
    );
}

#[test]
fn what_is_under_way_holds_up_nothing_else() {
    let Some((_directory, disk, mut pipe)) = slow_disk() else { return };
    let mut guest = Guest::new(disk);
    let (read, name) = (header(VIRTIO_BLK_T_IN, 0), header(VIRTIO_BLK_T_GET_ID, 0));
    guest.driver.send_from(0, &[Buffer::Filled(&read), Buffer::ToFill(513)]);
    guest.serve();
    guest.driver.send_from(3, &[Buffer::Filled(&name), Buffer::ToFill(21)]);
    guest.serve();
    assert_eq!(guest.driver.heads(), [3]);
    pipe.write_all(&[7; 512]).unwrap();
    guest.settle();
    assert_eq!(guest.driver.heads(), [3, 0]);
}
