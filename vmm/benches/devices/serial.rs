//! The serial port: a byte at a time, with a host that reads them. What it does not keep up with is lost.

use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use vmm::devices::Line;
use vmm::devices::serial::Serial;

use crate::host::Host;
use crate::measure::{Cost, Unit, row};

pub(crate) fn measure() -> Result<()> {
    let mut read = Vec::new();
    row("serial", "a byte", (200_000, Unit::Operation), |count| {
        let (port, host) = UnixStream::pair()?;
        let port = Serial::new(Line::new(|| {}), port.into())?;
        let host = Host::reads(host, count);
        Cost::of(|| {
            for _ in 0..count {
                port.send(b'x');
            }
            drop(port);
            read.push(host.moved()? * 100 / count);
            Ok(())
        })
    })?;
    let (least, most) = read.iter().min().zip(read.iter().max()).context("nothing was run")?;
    println!("\nOf the bytes to the serial port its host has read {least} to {most} %.");
    Ok(())
}
