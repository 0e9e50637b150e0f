//! The entropy device: requests of one size, one at a time as Linux has it.

use anyhow::Result;
use vmm::devices::rng::Rng;

use crate::driver::{BUFFERS, Buffer, Driver};
use crate::measure::{Cost, Unit, row};

pub(crate) fn measure() -> Result<()> {
    // What Linux asks for, and a page.
    for (what, length, count) in [("64 bytes", 64, 100_000), ("4 KiB", 4096, 10_000)] {
        row("rng", what, (count, Unit::Operation), |count| {
            let mut driver = Driver::new(Rng, 1, length.into())?;
            Cost::of(|| driver.serve(0, (count, 1), |_| [Buffer::to_fill(BUFFERS, length)]))
        })?;
    }
    Ok(())
}
