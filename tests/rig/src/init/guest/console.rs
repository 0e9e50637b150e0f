//! The guest's console.

use std::io::{self, Write};

use rig::blocks;
use rustix::termios::{OptionalActions, OutputModes, tcdrain, tcgetattr, tcsetattr};

use crate::Outcome;
use crate::arguments::Arguments;

/// The terminal adds nothing to what is printed.
pub(super) fn make_raw() -> Outcome<()> {
    let mut attributes = tcgetattr(io::stdout())?;
    attributes.output_modes.remove(OutputModes::OPOST);
    Ok(tcsetattr(io::stdout(), OptionalActions::Now, &attributes)?)
}

pub(super) fn drain() -> Outcome<()> {
    io::stdout().flush()?;
    Ok(tcdrain(io::stdout())?)
}

/// `rig.lines` lines of text that a reader can make himself.
pub(super) fn print(arguments: &Arguments) -> Outcome<()> {
    let mut out = io::stdout().lock();
    for number in 0..arguments.number("lines")? {
        writeln!(out, "{}", blocks::line(number))?;
    }
    Ok(())
}
