//! Drives each device as a guest's driver does, and measures it: `cargo bench -p vmm --bench devices -- [DEVICE]`.
//!
//! Prints tables: how much a second, and the processor's time for each, of user and kernel; medians of five runs, with
//! the least and the most of them. In that time is the driver's as well, which writes descriptors and reads what came
//! back, but neither a guest's exits nor an interrupt: the device is called, not kicked. Nothing here passes or fails by a
//! figure.

#![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, clippy::unwrap_used)]

mod balloon;
mod blk;
mod console;
mod driver;
mod host;
mod measure;
mod net;
mod rng;
mod serial;
mod vsock;

use anyhow::{Context, Result, bail};

/// A device, and what measures it.
type Bench = (&'static str, fn() -> Result<()>);

/// All but the disk, which needs a file. The serial port has a word to say behind the table.
const BENCHES: [Bench; 6] = [
    ("balloon", balloon::measure),
    ("rng", rng::measure),
    ("console", console::measure),
    ("net", net::measure),
    ("vsock", vsock::measure),
    ("serial", serial::measure),
];

fn main() -> Result<()> {
    // Cargo itself passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => run(&BENCHES),
        ["blk", file] => blk::measure(file.as_ref(), 1024),
        ["blk", file, mib] => blk::measure(file.as_ref(), mib.parse().context("MIB is a number")?),
        [name] if let Some(bench) = BENCHES.iter().find(|(known, _)| known == name) => run(&[*bench]),
        _ => bail!("usage: devices [balloon | rng | console | net | vsock | serial | blk FILE [MIB]]"),
    }
}

fn run(benches: &[Bench]) -> Result<()> {
    measure::heading();
    for (name, measure) in benches {
        measure().with_context(|| format!("{name} was not measured to its end"))?;
    }
    Ok(())
}
