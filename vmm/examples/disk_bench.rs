//! Drives a disk as a guest's driver does, and measures it: with io_uring, and one request after the other.
//!
//! `disk_bench FILE [MIB]` makes the file, of 1024 MiB unless said otherwise, and prints a table: for each way what it
//! moves in a second, and the processor's time of each request, the kernel's threads for the ring included. Reads find
//! nothing of the file in memory unless it is said.

#![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Advice, fadvise};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::Device;
use vmm::devices::blk::{Blk, Disk};
use vmm::memory::{self, Memory};

const MIB: u64 = 1 << 20;
/// Where the driver has what; the buffers lie behind.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x3000;
const USED: u64 = 0x4000;
const HEADERS: u64 = 0x5000;
const BUFFERS: u64 = MIB;
const SIZE: u16 = 256;

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

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: disk_bench FILE [MIB]")?;
    let size = arguments.next().map_or(Ok(1024), |mib| mib.parse::<u64>())? * MIB;
    make(Path::new(&path), size)?;
    println!("| load | depth | one by one | io_uring | one by one, CPU | io_uring, CPU |");
    println!("|---|---|---|---|---|---|");
    for load in loads() {
        let [mut slow, mut ring] = [Vec::new(), Vec::new()];
        // Side by side, so that both have the same neighbors.
        for _ in 0..5 {
            slow.push(run(Path::new(&path), size, load, true)?);
            ring.push(run(Path::new(&path), size, load, false)?);
        }
        let (slow, ring) = (median(slow), median(ring));
        println!(
            "| {} | {} | {} | {} | {:.1} µs | {:.1} µs |",
            load.name,
            load.depth,
            speed(load, slow.0),
            speed(load, ring.0),
            slow.1.as_secs_f64() * 1e6 / load.requests as f64,
            ring.1.as_secs_f64() * 1e6 / load.requests as f64,
        );
    }
    std::fs::remove_file(&path)?;
    Ok(())
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

fn median(mut runs: Vec<(Duration, Duration)>) -> (Duration, Duration) {
    runs.sort();
    runs[runs.len() / 2]
}

fn speed(load: Load, took: Duration) -> String {
    let each_second = load.requests as f64 / took.as_secs_f64();
    if load.block == MIB { format!("{each_second:.0} MiB/s") } else { format!("{each_second:.0}/s") }
}

/// How long it took, and of the processor.
fn run(path: &Path, size: u64, load: Load, one_by_one: bool) -> Result<(Duration, Duration)> {
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
    let mut driver = Driver::new(Blk::new(disk, |why| panic!("{why}")), load, size);
    let (started, before) = (Instant::now(), cpu());
    driver.drive()?;
    Ok((started.elapsed(), cpu() - before))
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap()
}

struct Driver {
    device: Blk,
    memory: Memory,
    queue: Queue,
    load: Load,
    blocks: u64,
    random: u64,
    sent: u64,
    /// Writes and flushes under way.
    beside: u8,
    offered: u16,
    used: u16,
}

impl Driver {
    fn new(device: Blk, load: Load, size: u64) -> Self {
        let end = BUFFERS + u64::from(load.depth + 2) * load.block;
        let memory = memory::allocate(std::slice::from_ref(&(0..end.next_multiple_of(MIB)))).unwrap();
        // Pages come from the host here, and not while it is measured.
        memory.write_slice(&vec![1; usize::try_from(end).unwrap()], GuestAddress(0)).unwrap();
        memory.write_slice(&vec![0; usize::try_from(BUFFERS).unwrap()], GuestAddress(0)).unwrap();
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_desc_table_address(Some(u32::try_from(TABLE).unwrap()), None);
        queue.set_avail_ring_address(Some(u32::try_from(AVAILABLE).unwrap()), None);
        queue.set_used_ring_address(Some(u32::try_from(USED).unwrap()), None);
        queue.set_ready(true);
        let blocks = size / load.block;
        Self {
            device,
            memory,
            queue,
            load,
            blocks,
            random: 0x9e37_79b9_7f4a_7c15,
            sent: 0,
            beside: 0,
            offered: 0,
            used: 0,
        }
    }

    fn drive(&mut self) -> Result<()> {
        let mut answered = 0;
        let mut all = 0;
        for place in 0..self.load.depth {
            all += self.send(place)?;
        }
        while answered < all {
            let mut queues = [std::mem::take(&mut self.queue)];
            self.device.process(&self.memory, &mut queues, Instant::now())?;
            let [queue] = queues;
            self.queue = queue;
            let places = self.answered()?;
            if places.is_empty() {
                let descriptor = self.device.descriptor().context("nothing is under way")?;
                poll(&mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)], None)?;
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
        let (number, writes) = match kind {
            Some(Kind::Read) => (0_u32, true),
            Some(Kind::Write) => (1, false),
            None => (4, false),
        };
        let header = HEADERS + u64::from(place) * 32;
        self.memory.write_obj(number, GuestAddress(header))?;
        self.memory.write_obj(at / 512, GuestAddress(header + 8))?;
        let first = place * 3;
        let data = BUFFERS + u64::from(place) * self.load.block;
        let length = u32::try_from(self.load.block)?;
        self.descriptor(first, header, 16, 1, if kind.is_some() { first + 1 } else { first + 2 })?;
        self.descriptor(first + 1, data, length, if writes { 3 } else { 1 }, first + 2)?;
        self.descriptor(first + 2, header + 16, 1, 2, 0)?;
        self.memory.write_obj(first, GuestAddress(AVAILABLE + 4 + u64::from(self.offered % SIZE) * 2))?;
        self.offered = self.offered.wrapping_add(1);
        self.memory.write_obj(self.offered, GuestAddress(AVAILABLE + 2))?;
        Ok(())
    }

    fn descriptor(&self, number: u16, address: u64, length: u32, flags: u16, next: u16) -> Result<()> {
        let at = TABLE + u64::from(number) * 16;
        self.memory.write_obj(address, GuestAddress(at))?;
        self.memory.write_obj(length, GuestAddress(at + 8))?;
        self.memory.write_obj(flags, GuestAddress(at + 12))?;
        self.memory.write_obj(next, GuestAddress(at + 14))?;
        Ok(())
    }

    /// The places whose requests have come back.
    fn answered(&mut self) -> Result<Vec<u16>> {
        let index: u16 = self.memory.read_obj(GuestAddress(USED + 2))?;
        let mut places = Vec::new();
        while self.used != index {
            let head: u32 = self.memory.read_obj(GuestAddress(USED + 4 + u64::from(self.used % SIZE) * 8))?;
            let place = u16::try_from(head / 3)?;
            let status: u8 = self.memory.read_obj(GuestAddress(HEADERS + u64::from(place) * 32 + 16))?;
            ensure!(status == 0, "a request failed with {status}");
            places.push(place);
            self.used = self.used.wrapping_add(1);
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
