//! A machine from plain files, from its start to its end.

use std::os::fd::OwnedFd;
use std::sync::mpsc;

use super::processor::{Processor, Report, Said, Wires, outcome};
use super::{Machine, RunError};
use crate::engine::Outcome;

/// Runs it, with what takes its console and the stream to the network process. `command` is QEMU, and what has to stand
/// before its options. QEMU ends with the calling thread.
pub fn run(
    command: &[String],
    machine: &Machine,
    console: OwnedFd,
    network: Option<OwnedFd>,
) -> Result<Outcome, RunError> {
    let (reports, waiting) = mpsc::channel();
    let report = move |report| drop(reports.send(report));
    let wires = Wires { vsock: None, console, network };
    let mut processor = Processor::start(command, machine, wires, report)?;
    let mut reason = None;
    // To the last word: what the monitor says may stand behind the news of QEMU's end.
    for report in waiting {
        match report {
            Report::Said(Said::Shutdown(why)) => reason = Some(why),
            Report::Said(Said::DiskStopped { disk, why }) => {
                processor.kill();
                return Ok(Outcome::Failed(machine.disk_stopped(&disk, &why)));
            }
            Report::Said(Said::Running) | Report::Ended => {}
        }
    }
    let (status, words) = processor.wait().map_err(RunError::Wait)?;
    Ok(outcome(status, reason.as_deref(), &words))
}
