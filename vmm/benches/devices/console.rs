//! The console: what a guest prints, with a host that reads it.

use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use vmm::devices::console::Console;

use crate::driver::{BUFFERS, Buffer, Driver};
use crate::host::Host;
use crate::measure::{Cost, Unit, row};

const TRANSMIT: usize = 1;
const APART: u64 = 4096;

pub(crate) fn measure() -> Result<()> {
    // Linux prints 16 bytes and waits until they are gone.
    row("console", "16 bytes, one buffer at a time", (100_000, Unit::Operation), |count| run(count, 1, 16))?;
    row("console", "4 KiB, 32 buffers at a time", (20_000, Unit::Bytes(4096)), |count| run(count, 32, 4096))
}

fn run(count: u64, depth: u16, length: u32) -> Result<Cost> {
    let (device, host) = UnixStream::pair()?;
    let mut driver = Driver::new(Console::new(device.into())?, 1, u64::from(depth) * APART)?;
    let bytes = count * u64::from(length);
    let host = Host::reads(host, bytes);
    Cost::of(|| {
        driver.serve(TRANSMIT, (count, depth), |place| {
            [Buffer::filled(BUFFERS + u64::from(place) * APART, length)]
        })?;
        ensure!(driver.finish(host)? == bytes, "the host did not get all");
        Ok(())
    })
}
