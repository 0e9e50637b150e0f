//! The disk, in both of its ways: with io_uring, and one request after the other.
//!
//! Makes the file, and removes it at the end. The processor's time is that of each request, the kernel's threads for the
//! ring included. Reads find nothing of the file in memory unless it is said.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{Advice, fadvise};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::blk::{Blk, Disk};

use crate::driver::{BUFFERS, Buffer, Driver, MIB, Used};
use crate::measure::{Cost, RUNS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    kind: Kind,
    block: u64,
    is_random: bool,
    depth: u16,
    is_cached: bool,
    /// A write and a flush come with each so many requests, unless the last ones are still under way.
    flush_each: Option<u64>,
    requests: u64,
}

/// With a file of so many MiB.
pub(crate) fn measure(path: &Path, mib: u64) -> Result<()> {
    let size = mib * MIB;
    make(path, size)?;
    println!("| load | depth | one by one | io_uring | one by one, CPU | io_uring, CPU |");
    println!("|---|---|---|---|---|---|");
    for load in loads() {
        let [mut slow, mut ring] = [Vec::new(), Vec::new()];
        // Side by side, so that both have the same neighbors.
        for _ in 0..RUNS {
            slow.push(run(path, size, load, true)?);
            ring.push(run(path, size, load, false)?);
        }
        let (slow, ring) = (median(slow), median(ring));
        println!(
            "| {} | {} | {} | {} | {:.1} µs | {:.1} µs |",
            load.name,
            load.depth,
            speed(load, slow),
            speed(load, ring),
            slow.cpu.as_secs_f64() * 1e6 / load.requests as f64,
            ring.cpu.as_secs_f64() * 1e6 / load.requests as f64,
        );
    }
    Ok(std::fs::remove_file(path)?)
}

fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    for depth in [1, 32] {
        let base = Load {
            name: "",
            kind: Kind::Read,
            block: MIB,
            is_random: false,
            depth,
            is_cached: false,
            flush_each: None,
            requests: 512,
        };
        loads.push(Load { name: "1 MiB reads in a row", ..base });
        loads.push(Load { name: "1 MiB writes in a row", kind: Kind::Write, ..base });
        let small = Load { block: 4096, is_random: true, requests: 8000, ..base };
        loads.push(Load { name: "4 KiB reads anywhere", ..small });
        loads.push(Load { name: "the same, cached", is_cached: true, requests: 40_000, ..small });
        loads.push(Load { name: "4 KiB writes anywhere", kind: Kind::Write, requests: 20_000, ..small });
        if depth > 1 {
            let flushes = Some(100);
            loads.push(Load {
                name: "4 KiB reads anywhere, a write and a flush after each 100",
                flush_each: flushes,
                ..small
            });
        }
    }
    loads
}

fn make(path: &Path, size: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let block: Vec<u8> = (0..MIB).map(|at| (at % 251).to_le_bytes()[0]).collect();
    for _ in 0..size / MIB {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn median(mut runs: Vec<Cost>) -> Cost {
    runs.sort();
    runs[runs.len() / 2]
}

fn speed(load: Load, cost: Cost) -> String {
    let each_second = load.requests as f64 / cost.time.as_secs_f64();
    if load.block == MIB { format!("{each_second:.0} MiB/s") } else { format!("{each_second:.0}/s") }
}

fn run(path: &Path, size: u64, load: Load, one_by_one: bool) -> Result<Cost> {
    let file = File::open(path)?;
    file.sync_all()?;
    if load.is_cached {
        std::io::copy(&mut &file, &mut std::io::sink())?;
    } else {
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    let disk = Disk::open(path, false)?;
    if let (false, Some(why)) = (one_by_one, disk.lacks()) {
        anyhow::bail!("{why}");
    }
    let disk = if one_by_one { disk.one_by_one() } else { disk };
    let mut guest = Guest::new(Blk::new(disk, |why| panic!("{why}")), load, size)?;
    Cost::of(|| guest.drive())
}

struct Guest {
    driver: Driver<Blk>,
    load: Load,
    blocks: u64,
    random: u64,
    sent: u64,
    /// Writes and flushes under way.
    beside: u8,
}

/// Of each place: the header, and behind it the byte for the status; all before the blocks.
const HEADER: u64 = 16;
const APART: u64 = 32;
const BLOCKS: u64 = BUFFERS + MIB;

impl Guest {
    fn new(device: Blk, load: Load, size: u64) -> Result<Self> {
        let driver = Driver::new(device, 3, MIB + u64::from(load.depth + 2) * load.block)?;
        let blocks = size / load.block;
        Ok(Self { driver, load, blocks, random: 0x9e37_79b9_7f4a_7c15, sent: 0, beside: 0 })
    }

    fn drive(&mut self) -> Result<()> {
        let mut answered = 0;
        let mut all = 0;
        for place in 0..self.load.depth {
            all += self.send(place)?;
        }
        while answered < all {
            self.driver.process()?;
            let places = self.answered()?;
            if places.is_empty() {
                self.driver.wait()?;
            }
            for place in places {
                answered += 1;
                if place < self.load.depth {
                    all += self.send(place)?;
                } else {
                    self.beside -= 1;
                }
            }
        }
        Ok(())
    }

    /// Sends the next request, if there is one left, in a place of its own; how many it comes to.
    fn send(&mut self, place: u16) -> Result<u64> {
        if self.sent == self.load.requests {
            return Ok(0);
        }
        self.sent += 1;
        let block = if self.load.is_random { self.random() } else { self.sent } % self.blocks;
        self.request(place, Some(self.load.kind), block * self.load.block)?;
        let is_due = self.load.flush_each.is_some_and(|each| self.sent.is_multiple_of(each));
        if is_due && self.beside == 0 {
            self.beside = 2;
            let block = self.random() % self.blocks;
            self.request(self.load.depth, Some(Kind::Write), block * self.load.block)?;
            self.request(self.load.depth + 1, None, 0)?;
            return Ok(3);
        }
        Ok(1)
    }

    /// A read, a write, or a flush.
    fn request(&mut self, place: u16, kind: Option<Kind>, at: u64) -> Result<()> {
        let header = BUFFERS + u64::from(place) * APART;
        let block = BLOCKS + u64::from(place) * self.load.block;
        let length = u32::try_from(self.load.block)?;
        let (number, data) = match kind {
            Some(Kind::Read) => (0_u32, Some(Buffer::to_fill(block, length))),
            Some(Kind::Write) => (1, Some(Buffer::filled(block, length))),
            None => (4, None),
        };
        self.driver.memory.write_obj(number, GuestAddress(header))?;
        self.driver.memory.write_obj(at / 512, GuestAddress(header + 8))?;
        let (asked, status) = (Buffer::filled(header, 16), Buffer::to_fill(header + HEADER, 1));
        match data {
            Some(data) => self.driver.offer(0, place, &[asked, data, status]),
            None => self.driver.offer(0, place, &[asked, status]),
        }
    }

    /// The places whose requests have come back.
    fn answered(&mut self) -> Result<Vec<u16>> {
        let mut places = Vec::new();
        while let Some(Used { place, .. }) = self.driver.used(0)? {
            let status = GuestAddress(BUFFERS + u64::from(place) * APART + HEADER);
            let status: u8 = self.driver.memory.read_obj(status)?;
            ensure!(status == 0, "a request failed with {status}");
            places.push(place);
        }
        Ok(places)
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
