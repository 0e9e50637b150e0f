//! A disk (virtio 1.3, 5.2): any requests, over a real file, held against an array of bytes.
//!
//! Input: flags (1: read-only, 2: event indexes, 4: a size that is odd in pages), then requests. Each is its kind, its first
//! sector, how many bytes to fill (the status among them), how buffers are cut, and for kinds that send something how much:
//! a write so many bytes, a discard or zeroes so many ranges (first sector, sectors, flags, and a length that is cut short).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{MemfdFlags, memfd_create};
use vmm::devices::Device;
use vmm::devices::blk::{Blk, Disk};

use crate::input::Input;
use crate::memory::{self, read, write};
use crate::ring::{self, Piece, Ring};

const MEMORY: u64 = 0x1_0000;
/// What the driver fills, and what it has filled for it.
const FILLED: u64 = 0x2000;
const TO_FILL: u64 = 0x8000;
const MOST: u64 = 0x4000;
/// What is looked at behind it.
const BEHIND: usize = 256;
const UNTOUCHED: u8 = 0xee;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const IDENTIFY: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;

const OK: u8 = 0;
const FAILED: u8 = 1;
const UNSUPPORTED: u8 = 2;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let flags = input.byte();
    let is_read_only = flags & 1 != 0;
    let size = if flags & 4 == 0 { 0x8000 } else { 0x7200 };
    let mut model: Vec<u8> = (0..size).map(|at: u32| (at / 512 + at % 512) as u8 | 1).collect();
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&model, 0).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let name = file.as_raw_fd().to_string();
    let disk = Disk::open(&path, is_read_only).unwrap();
    let disk = if flags & 8 == 0 { disk.one_by_one() } else { disk };
    let mut disk = Blk::new(disk, |why| panic!("{why}"));

    let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
    let (mut ring, mut queue) = Ring::new(ring::ROOM, flags & 2 != 0);
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let request = Script::read(&mut input);
        write(&memory, FILLED, &request.filled);
        let end = TO_FILL + request.to_fill;
        write(&memory, end, &[UNTOUCHED; BEHIND]);
        ring.offer(&memory, &request.pieces()).unwrap();
        let queues = std::slice::from_mut(&mut queue);
        let at_once = disk.process(&memory, queues, Instant::now()).unwrap();
        let at_last = disk.settle(&memory, queues).unwrap();
        let used = ring.used(&memory);
        assert!(at_once.has(0) || at_last.has(0), "the driver is not told");
        assert_eq!(used.len(), 1);
        assert_eq!(u64::from(used[0].1), request.to_fill, "all of it was filled, or skipped");

        let came = read(&memory, TO_FILL, request.to_fill as usize);
        if let Some((status, data)) = came.split_last() {
            let (expected, expected_data) = request.carry_out(&mut model, is_read_only, &name);
            assert_eq!(*status, expected, "{request:x?}");
            assert!(expected_data.is_none_or(|expected| data.starts_with(&expected)), "{request:x?}");
        }
        assert!(read(&memory, FILLED, request.filled.len()) == request.filled);
        assert!(read(&memory, end, BEHIND) == [UNTOUCHED; BEHIND], "more was filled than there is");
    }
    let mut content = vec![0; model.len() + 1];
    let length = file.read_at(&mut content, 0).unwrap();
    content.truncate(length);
    assert!(content == model, "the file is not what the requests made of it");
}

#[derive(Debug)]
struct Script {
    kind: u32,
    sector: u64,
    filled: Vec<u8>,
    to_fill: u64,
    cut: u8,
    ranges: Vec<(u64, u32, u32)>,
}

impl Script {
    fn read(input: &mut Input<'_>) -> Self {
        let kind = input.number() as u32;
        let sector = input.number();
        let to_fill = input.number().min(MOST + 1);
        let cut = input.byte();
        let mut filled = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        let mut ranges = Vec::new();
        match kind {
            WRITE => {
                let length = input.number().min(MOST) as usize;
                let first = input.byte();
                filled.extend((0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(first)));
            }
            DISCARD | ZEROES => {
                for _ in 0..input.below(20) {
                    let range = (input.number(), input.number() as u32, input.number() as u32);
                    filled.extend(range.0.to_le_bytes());
                    filled.extend(range.1.to_le_bytes());
                    filled.extend(range.2.to_le_bytes());
                    ranges.push(range);
                }
            }
            _ => {}
        }
        // Now and then something is missing.
        if cut & 0x80 != 0 {
            filled.truncate(filled.len().saturating_sub(usize::from(input.byte())));
        }
        Self { kind, sector, filled, to_fill, cut, ranges }
    }

    /// Buffers of at most a few lengths each.
    fn pieces(&self) -> Vec<Piece> {
        let cut = |at: u64, length: u64, step: u64, piece: fn(u64, u32) -> Piece| {
            let step = step.max(length / 16 + 1);
            let starts = (0..length.max(1)).step_by(step as usize);
            starts.map(move |start| piece(at + start, step.min(length - start) as u32)).collect::<Vec<_>>()
        };
        let steps = [0x4000, 1, 16, 17, 100, 512, 513, 0x1000];
        let filled = cut(FILLED, self.filled.len() as u64, steps[usize::from(self.cut & 7)], Piece::Filled);
        let to_fill = cut(TO_FILL, self.to_fill, steps[usize::from(self.cut >> 3 & 7)], Piece::ToFill);
        [filled, to_fill].concat()
    }

    /// Its status, and what the driver has to find in its buffers.
    fn carry_out(&self, disk: &mut [u8], is_read_only: bool, name: &str) -> (u8, Option<Vec<u8>>) {
        let Some(sent) = self.filled.len().checked_sub(16) else { return (FAILED, None) };
        let data = &self.filled[16..];
        let on_disk = |sector: u64, length: u128, disk: &[u8]| {
            let end = u128::from(sector) * 512 + length;
            let start = end - length;
            (length.is_multiple_of(512) && end <= disk.len() as u128).then_some(start as usize..end as usize)
        };
        if is_read_only && [WRITE, DISCARD, ZEROES].contains(&self.kind) {
            return (FAILED, None);
        }
        match self.kind {
            READ => match on_disk(self.sector, u128::from(self.to_fill) - 1, disk) {
                Some(range) => (OK, Some(disk[range].to_vec())),
                None => (FAILED, None),
            },
            WRITE => match on_disk(self.sector, sent as u128, disk) {
                Some(range) => {
                    disk[range].copy_from_slice(data);
                    (OK, None)
                }
                None => (FAILED, None),
            },
            FLUSH => (OK, None),
            IDENTIFY => {
                let mut id = name.as_bytes().to_vec();
                id.resize(20, 0);
                id.truncate(self.to_fill as usize - 1);
                (OK, Some(id))
            }
            DISCARD | ZEROES => {
                if !sent.is_multiple_of(16) || !(1..=16).contains(&(sent / 16)) {
                    return (FAILED, None);
                }
                let ranges = &self.ranges[..sent / 16];
                let places: Vec<_> = ranges
                    .iter()
                    .map(|(sector, count, _)| on_disk(*sector, u128::from(*count) * 512, disk))
                    .collect();
                if places.contains(&None) {
                    return (FAILED, None);
                }
                let allowed = u32::from(self.kind == ZEROES);
                if ranges.iter().any(|(_, _, flags)| *flags > allowed) {
                    return (UNSUPPORTED, None);
                }
                places.into_iter().flatten().for_each(|place| disk[place].fill(0));
                (OK, None)
            }
            _ => (UNSUPPORTED, None),
        }
    }
}
