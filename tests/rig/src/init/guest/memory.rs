//! Memory that the guest uses and no longer uses, and a balloon that it takes back from.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::arguments::Arguments;

const MIB: usize = 1 << 20;

/// Fills so much memory, gives it back to its kernel, and waits.
pub(super) fn use_and_free(arguments: &Arguments) -> Outcome<()> {
    let memory = fill(arguments.number("mib")?)?;
    println!("rig: full");
    // Long enough that whoever looks sees it.
    thread::sleep(Duration::from_secs(30));
    drop(memory);
    println!("rig: freed");
    super::wait()
}

/// Waits for the balloon to take its share, then uses more than is left.
pub(super) fn use_what_the_balloon_has(arguments: &Arguments) -> Outcome<()> {
    let left: u64 = arguments.number("left")?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while free_mib()? > left {
        if Instant::now() > deadline {
            return Err(format!("the balloon leaves {} MiB free", free_mib()?).into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    println!("rig: free={}", free_mib()?);
    let memory = fill(arguments.number("mib")?)?;
    println!("rig: used={}", memory.len() / MIB);
    Ok(())
}

fn fill(mib: u64) -> Outcome<Vec<u8>> {
    let length = usize::try_from(mib)? * MIB;
    let mut memory = Vec::new();
    memory.try_reserve_exact(length)?;
    // Not zeroes, of which a kernel could give one page for all.
    memory.resize(length, 0x5a);
    Ok(memory)
}

fn free_mib() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemFree:")).ok_or("no MemFree")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024)
}
