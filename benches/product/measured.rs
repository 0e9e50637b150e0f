//! One run of a program: how long it takes, and how much memory it has at most.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::start;

const SAMPLE: Duration = Duration::from_millis(5);

/// Seconds that it takes, and the most memory that the program itself had, in MiB: not the programs that it runs.
pub(crate) fn run(mut command: Command) -> (f64, f64) {
    let begin = Instant::now();
    let mut running = start(&mut command);
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0.0;
    while running.is_running() {
        // What is there until it is waited for; the last look before its end is a few milliseconds old.
        if let Some(now) = high_water(Path::new(&status)) {
            peak = now;
        }
        std::thread::sleep(SAMPLE);
    }
    let took = begin.elapsed().as_secs_f64();
    running.outcome().ok();
    (took, peak)
}

/// `VmHWM` in MiB.
fn high_water(status: &Path) -> Option<f64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}
