//! Hosts on which QEMU cannot be the processor.

use std::os::fd::OwnedFd;

use super::orders::Supervisor;
use crate::control::{MachineConfig, Outcome};
use crate::engine::tcg::TcgError;

/// Says that there is no such machine.
pub(super) fn run(
    _command: &[String],
    _config: &MachineConfig,
    _network: Option<OwnedFd>,
    _supervisor: &mut Supervisor,
) -> Result<Outcome, TcgError> {
    Err(TcgError::Host)
}
