//! A host on which QEMU cannot be served a device.

use std::os::fd::OwnedFd;

pub use super::TcgError as RunError;
use super::{Machine, TcgError};
use crate::engine::Outcome;

/// There is no such machine here.
pub fn run(
    _command: &[String],
    _machine: &Machine,
    _console: OwnedFd,
    _network: Option<OwnedFd>,
) -> Result<Outcome, RunError> {
    Err(TcgError::Host)
}
