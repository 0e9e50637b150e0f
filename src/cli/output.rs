//! Standard output: where results go, and nothing else.

use std::fmt::Display;
use std::io::{self, Write};

use super::Failure;

/// Prints a result. That nobody reads it any more, as behind `| head`, ends the verb in silence.
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(write!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// The same with a newline.
pub(super) fn print_line(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// What a write to standard output means.
pub(super) fn written<T>(result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::from(error),
    })
}
