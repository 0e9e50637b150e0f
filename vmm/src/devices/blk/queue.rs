//! The queue, pure: generic over memory and over what carries requests out.

use std::io::{self, Write};

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use virtio_queue::Queue;
use vm_memory::GuestMemory;
use vm_memory::bitmap::BitmapSlice;

use super::request::{Limits, Refused, Request, Zeroes};
use crate::devices::RingError;
use crate::devices::chain::{self, Buffers, Chain, Pass};

/// The length of a disk's name (virtio 1.3, 5.2.6).
const NAME: usize = 20;

/// Carries requests out. Each call returns when that is done.
pub(super) trait Storage {
    /// In bytes.
    fn size(&self) -> u64;
    fn is_read_only(&self) -> bool;
    /// Fills `length` bytes of the buffers from the disk.
    fn read<B: BitmapSlice>(&self, at: u64, length: u64, into: &mut Buffers<'_, B>) -> io::Result<()>;
    fn write<B: BitmapSlice>(&self, at: u64, length: u64, from: &mut Buffers<'_, B>) -> io::Result<()>;
    /// What was written before survives the host's end.
    fn flush(&self) -> io::Result<()>;
    /// Gives the bytes' room back to the host.
    fn discard(&self, start: u64, end: u64) -> io::Result<()>;
    fn write_zeroes(&self, zeroes: &Zeroes) -> io::Result<()>;
    fn name(&self) -> &str;
    /// A request could not be carried out, for a reason of the host's.
    fn failed(&self, error: &io::Error);
}

/// Serves the requests that wait.
pub(super) fn serve<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    storage: &impl Storage,
) -> Result<Pass, RingError> {
    chain::serve(queue, memory, |chain| carry_out(chain, storage))
}

/// One request; returns the bytes that were written for the driver. Its status is the last byte of what is to be filled.
fn carry_out<B: BitmapSlice>(chain: &mut Chain<'_, B>, storage: &impl Storage) -> u32 {
    // Without room for a status there is nobody to answer.
    let Some(to_fill) = chain.writable.available().checked_sub(1) else { return 0 };
    let limits = Limits {
        disk: storage.size(),
        is_read_only: storage.is_read_only(),
        to_fill: to_fill as u64,
        filled: chain.readable.available() as u64,
    };
    let status = match Request::read(&mut chain.readable, limits) {
        Ok(request) => match perform(&request, chain, storage, to_fill) {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(error) => {
                tracing::debug!(%error, ?request, "a disk's request failed");
                storage.failed(&error);
                VIRTIO_BLK_S_IOERR
            }
        },
        Err(Refused::Wrong) => VIRTIO_BLK_S_IOERR,
        Err(Refused::Unsupported) => VIRTIO_BLK_S_UNSUPP,
    };
    let filled = chain.writable.done();
    chain.writable.skip(to_fill.saturating_sub(filled));
    let _ = chain.writable.write_all(&[u8::try_from(status).unwrap_or(u8::MAX)]);
    u32::try_from(chain.writable.done()).unwrap_or(u32::MAX)
}

fn perform<B: BitmapSlice>(
    request: &Request,
    chain: &mut Chain<'_, B>,
    storage: &impl Storage,
    to_fill: usize,
) -> io::Result<()> {
    let length = |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start);
    match request {
        Request::Read(range) => storage.read(range.start, length(range), &mut chain.writable),
        Request::Write(range) => storage.write(range.start, length(range), &mut chain.readable),
        Request::Flush => storage.flush(),
        Request::Identify => {
            let mut name = storage.name().as_bytes().to_vec();
            name.resize(NAME, 0);
            chain.writable.write_all(name.get(..NAME.min(to_fill)).unwrap_or_default())
        }
        Request::Discard(ranges) => {
            ranges.iter().try_for_each(|range| storage.discard(range.start, range.end))
        }
        Request::WriteZeroes(zeroes) => zeroes.iter().try_for_each(|zeroes| storage.write_zeroes(zeroes)),
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_blk::{
        VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    };

    use virtio_queue::QueueT;

    use super::Storage;
    use crate::devices::blk::Disk;
    use crate::devices::testing::{Buffer, Driver};

    fn disk() -> (tempfile::TempDir, Disk) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        std::fs::write(&path, (0..16_384_u32).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap();
        let disk = Disk::open(&path, false).unwrap();
        (directory, disk)
    }

    fn header(kind: u32, sector: u64) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
    }

    fn serve(driver: &mut Driver, disk: &Disk, buffers: &[Buffer<'_>]) -> u32 {
        driver.send(buffers);
        assert!(super::serve(&mut driver.queue, &driver.memory, disk).unwrap().signal);
        driver.used().1
    }

    #[test]
    fn what_is_written_is_read_again_however_the_buffers_are_cut() {
        let (_directory, disk) = disk();
        let mut driver = Driver::new();
        let data: Vec<u8> = (0..1024_u32).map(|at| (at % 251) as u8).collect();
        let write = header(VIRTIO_BLK_T_OUT, 3);
        let parts = [
            Buffer::Filled(&write),
            Buffer::Filled(&data[..100]),
            Buffer::Filled(&data[100..]),
            Buffer::ToFill(1),
        ];
        assert_eq!(serve(&mut driver, &disk, &parts), 1);
        assert_eq!(driver.bytes(3, 1), [0], "its status");
        let read = header(VIRTIO_BLK_T_IN, 3);
        let parts = [Buffer::Filled(&read), Buffer::ToFill(700), Buffer::ToFill(325)];
        assert_eq!(serve(&mut driver, &disk, &parts), 1025);
        assert_eq!([driver.bytes(1, 700), driver.bytes(2, 324)].concat(), data);
        assert_eq!(driver.bytes(2, 325)[324], 0, "its status is the last byte");
        let flush = header(VIRTIO_BLK_T_FLUSH, 0);
        assert_eq!(serve(&mut driver, &disk, &[Buffer::Filled(&flush), Buffer::ToFill(1)]), 1);
    }

    #[test]
    fn a_request_is_over_when_its_buffers_come_back() {
        // CVE-2026-45782: one that was still under way used buffers that were no longer its own.
        let (_directory, disk) = disk();
        let mut driver = Driver::new();
        let write = header(VIRTIO_BLK_T_OUT, 3);
        serve(&mut driver, &disk, &[Buffer::Filled(&write), Buffer::Filled(&[5; 512]), Buffer::ToFill(1)]);
        let read = header(VIRTIO_BLK_T_IN, 3);
        // They lie where the bytes to be written were.
        serve(&mut driver, &disk, &[Buffer::Filled(&read), Buffer::Filled(&[6; 512]), Buffer::ToFill(513)]);
        assert_eq!(
            driver.bytes(2, 513),
            [vec![5; 512], vec![0]].concat(),
            "what the buffers held at that time"
        );
        let before = driver.bytes(0, 0x4000);
        driver.queue.reset();
        disk.flush().unwrap();
        assert!(driver.bytes(0, 0x4000) == before, "nothing is filled after that");
    }

    #[test]
    fn the_disk_has_a_name_and_holes() {
        let (_directory, disk) = disk();
        let mut driver = Driver::new();
        let name = header(VIRTIO_BLK_T_GET_ID, 0);
        assert_eq!(
            serve(&mut driver, &disk, &[Buffer::Filled(&name), Buffer::ToFill(20), Buffer::ToFill(1)]),
            21
        );
        assert_eq!(driver.bytes(1, 9), b"disk.raw\0");
        let discard = [
            header(VIRTIO_BLK_T_DISCARD, 0),
            [&8_u64.to_le_bytes()[..], &8_u32.to_le_bytes(), &[0; 4]].concat(),
        ];
        let parts = [Buffer::Filled(&discard[0]), Buffer::Filled(&discard[1]), Buffer::ToFill(1)];
        serve(&mut driver, &disk, &parts);
        assert_eq!(driver.bytes(2, 1), [0]);
        let read = header(VIRTIO_BLK_T_IN, 8);
        serve(&mut driver, &disk, &[Buffer::Filled(&read), Buffer::ToFill(513)]);
        assert_eq!(driver.bytes(1, 513), [0; 513]);
    }

    #[test]
    fn what_cannot_be_done_has_its_status_and_costs_nothing_else() {
        let (_directory, disk) = disk();
        let mut driver = Driver::new();
        let mut status = |kind: u32, sector: u64, to_fill: u32| {
            let header = header(kind, sector);
            serve(&mut driver, &disk, &[Buffer::Filled(&header), Buffer::ToFill(to_fill)]);
            driver.bytes(1, to_fill as usize).pop()
        };
        assert_eq!(status(VIRTIO_BLK_T_IN, 32, 513), Some(1), "beyond the end");
        assert_eq!(status(VIRTIO_BLK_T_IN, 0, 100), Some(1), "no whole sector");
        assert_eq!(status(99, 0, 1), Some(2), "not offered");
        assert_eq!(status(VIRTIO_BLK_T_IN, 0, 513), Some(0), "the next one works");
        assert_eq!(serve(&mut driver, &disk, &[Buffer::Filled(b"short"), Buffer::ToFill(1)]), 1);
        assert_eq!(
            serve(&mut driver, &disk, &[Buffer::Filled(&header(VIRTIO_BLK_T_IN, 0))]),
            0,
            "nobody to answer"
        );
    }
}
