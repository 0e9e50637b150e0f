//! The balloon: memory that the guest had touched, and gives back.

use anyhow::{Result, ensure};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::balloon::Balloon;

use crate::driver::{BUFFERS, Buffer, Driver, MIB, Used};
use crate::measure::{Cost, Unit, row};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORTING: usize = 2;

const PAGE: u64 = 4096;
/// Pages of one request, as Linux makes it.
const PAGES: u32 = 256;
/// Pieces of one report, and their size: the same.
const PIECES: u16 = 32;
const PIECE: u64 = 2 * MIB;
const ROOM: u64 = 256 * MIB;
/// The list of a request's pages, where the buffers begin; what is given back lies behind.
const FIRST: u64 = (BUFFERS + 2 * MIB) / PAGE;

pub(crate) fn measure() -> Result<()> {
    row("balloon", "256 pages taken back, of which nothing is done", (200_000, Unit::Operation), |count| {
        let mut driver = Driver::new(Balloon::new(0), 1, MIB)?;
        Cost::of(|| driver.serve(DEFLATE, (count, 1), |_| [Buffer::filled(BUFFERS, PAGES * 4)]))
    })?;
    row("balloon", "256 pages in a row given up", (200, Unit::Operation), |count| inflate(count, 1))?;
    row("balloon", "256 pages, every other one, given up", (100, Unit::Operation), |count| {
        inflate(count, 2)
    })?;
    row("balloon", "32 pieces of 2 MiB reported", (20, Unit::Operation), report)
}

/// Each request names other pages, `apart` pages one from the next.
fn inflate(count: u64, apart: u32) -> Result<Cost> {
    let mut driver = Driver::new(Balloon::new(0), 1, ROOM)?;
    let mut cost = Cost::default();
    for request in 0..u32::try_from(count)? {
        let first = u32::try_from(FIRST)? + request * PAGES * apart;
        let list: Vec<u8> = (0..PAGES).flat_map(|page| (first + page * apart).to_le_bytes()).collect();
        driver.memory.write_slice(&list, GuestAddress(BUFFERS))?;
        cost.add(|| driver.serve(INFLATE, (1, 1), |_| [Buffer::filled(BUFFERS, PAGES * 4)]))?;
        let given: u64 = driver.memory.read_obj(GuestAddress(u64::from(first) * PAGE))?;
        ensure!(given == 0, "a page was not given back");
    }
    Ok(cost)
}

fn report(count: u64) -> Result<Cost> {
    let mut driver = Driver::new(Balloon::new(0), PIECES, u64::from(PIECES) * PIECE)?;
    let pieces: Vec<Buffer> = (0..u64::from(PIECES))
        .map(|piece| Ok(Buffer::to_fill(BUFFERS + piece * PIECE, u32::try_from(PIECE)?)))
        .collect::<Result<_>>()?;
    let mut cost = Cost::default();
    for _ in 0..count {
        driver.touch()?;
        cost.add(|| {
            driver.offer(REPORTING, 0, &pieces)?;
            driver.process()
        })?;
        let is_back = matches!(driver.used(REPORTING)?, Some(Used { place: 0, .. }));
        ensure!(is_back, "the report did not come back");
    }
    Ok(cost)
}
