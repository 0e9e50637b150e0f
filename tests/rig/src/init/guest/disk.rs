//! A disk of the guest's: `rig.disk`, a part of it that begins at the byte `rig.at` and has `rig.blocks` blocks, and
//! `rig.seed`, from which its contents come.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread;

use rig::blocks::{self, BLOCK};

use crate::Outcome;
use crate::arguments::Arguments;

/// `_IO(0x12, 119)` of linux/fs.h.
const BLKDISCARD: libc::c_ulong = 0x1277;

/// Some memory that a device may be given as it is.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

struct Part<'a> {
    path: &'a str,
    at: u64,
    blocks: u64,
    seed: u64,
}

impl<'a> Part<'a> {
    fn of(arguments: &'a Arguments) -> Outcome<Self> {
        Ok(Self {
            path: arguments.text("disk")?,
            at: arguments.number("at")?,
            blocks: arguments.number("blocks")?,
            seed: arguments.number("seed")?,
        })
    }

    fn open(&self) -> io::Result<File> {
        direct(self.path)
    }

    fn offset(&self, number: u64) -> u64 {
        self.at + number * BLOCK as u64
    }

    /// Every block that this round writes, from several threads at once.
    fn write_round(&self, disk: &File, round: u64) -> io::Result<()> {
        const THREADS: u64 = 4;
        thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let numbers = blocks::written(self.seed, self.blocks, round);
                    let numbers = numbers.filter(move |number| number % THREADS == thread);
                    scope.spawn(move || self.write_all(disk, round, numbers))
                })
                .collect();
            writers.into_iter().try_for_each(|writer| match writer.join() {
                Ok(written) => written,
                Err(_) => Err(io::Error::other("a thread that writes panicked")),
            })
        })
    }

    fn write_all(&self, disk: &File, round: u64, numbers: impl Iterator<Item = u64>) -> io::Result<()> {
        let mut block = Box::new(Aligned([0; BLOCK]));
        for number in numbers {
            blocks::fill(&mut block.0, self.seed, number, round);
            disk.write_all_at(&block.0, self.offset(number))?;
        }
        Ok(())
    }
}

/// A disk of which nothing stays in the guest's own memory.
fn direct(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)
}

/// Writes `rig.rounds` rounds, each of which it flushes. With `rig.then=on` it writes on, behind that part and without
/// a flush, until it is killed.
pub(super) fn write(arguments: &Arguments) -> Outcome<()> {
    let part = Part::of(arguments)?;
    let disk = part.open()?;
    for round in 0..arguments.number("rounds")? {
        part.write_round(&disk, round)?;
        disk.sync_all()?;
    }
    println!("rig: flushed");
    if arguments.text("then")? == "on" {
        let behind = Part { at: part.offset(part.blocks), ..part };
        for round in 0.. {
            behind.write_round(&disk, round)?;
        }
    }
    Ok(())
}

/// Reads all of what [`write`] flushed.
pub(super) fn check(arguments: &Arguments) -> Outcome<()> {
    let part = Part::of(arguments)?;
    let disk = part.open()?;
    let (mut found, mut expected) = (Box::new(Aligned([0; BLOCK])), vec![0; BLOCK]);
    let mut checked = 0_u64;
    for (number, round) in (0..).zip(blocks::last_rounds(part.seed, part.blocks, arguments.number("rounds")?))
    {
        disk.read_exact_at(&mut found.0, part.offset(number))?;
        match round {
            Some(round) => blocks::fill(&mut expected, part.seed, number, round),
            None => expected.fill(0),
        }
        if found.0[..] != expected[..] {
            return Err(
                format!("block {number}, last written in round {round:?}, holds something else").into()
            );
        }
        checked += 1;
    }
    println!("rig: checked={checked}");
    Ok(())
}

/// Gives the whole part back; after that it reads as zeroes.
pub(super) fn discard(arguments: &Arguments) -> Outcome<()> {
    let part = Part::of(arguments)?;
    let disk = part.open()?;
    let range = [part.at, part.blocks * BLOCK as u64];
    // SAFETY: the request reads two numbers of 64 bits.
    if unsafe { libc::ioctl(disk.as_raw_fd(), BLKDISCARD, range.as_ptr()) } != 0 {
        return Err(format!("BLKDISCARD: {}", io::Error::last_os_error()).into());
    }
    disk.sync_all()?;
    let mut block = Box::new(Aligned([1; BLOCK]));
    disk.read_exact_at(&mut block.0, part.offset(part.blocks - 1))?;
    if block.0.iter().any(|byte| *byte != 0) {
        return Err("a discarded block is not all zeroes".into());
    }
    println!("rig: discarded");
    Ok(())
}

/// Says what becomes of one who writes.
pub(super) fn read_only(arguments: &Arguments) -> Outcome<()> {
    let part = Part::of(arguments)?;
    let name = part.path.trim_start_matches("/dev/");
    println!("rig: ro={}", std::fs::read_to_string(format!("/sys/block/{name}/ro"))?.trim());
    let written = part.open().and_then(|disk| disk.write_all_at(&Aligned([1; BLOCK]).0, part.at));
    match written {
        Ok(()) => println!("rig: written"),
        Err(error) => println!("rig: refused={}", error.raw_os_error().unwrap_or(0)),
    }
    Ok(())
}

/// What one request moves when only the speed matters.
const PIECE: usize = 128 * 1024;

#[repr(align(4096))]
struct Piece([u8; PIECE]);

/// Reads the first `rig.mib` MiB of `rig.disk` in one go, between two words.
pub(super) fn read_through(arguments: &Arguments) -> Outcome<()> {
    let mut piece = Box::new(Piece([0; PIECE]));
    through(arguments, |disk, at| disk.read_exact_at(&mut piece.0, at))
}

/// Writes them, and flushes at the end.
pub(super) fn write_through(arguments: &Arguments) -> Outcome<()> {
    let piece = Box::new(Piece([0x5a; PIECE]));
    through(arguments, |disk, at| disk.write_all_at(&piece.0, at))
}

fn through(arguments: &Arguments, mut step: impl FnMut(&File, u64) -> io::Result<()>) -> Outcome<()> {
    let disk = direct(arguments.text("disk")?)?;
    let end = arguments.number("mib")? << 20;
    println!("rig: begins");
    for at in (0..end).step_by(PIECE) {
        step(&disk, at)?;
    }
    disk.sync_all()?;
    println!("rig: ends");
    Ok(())
}
