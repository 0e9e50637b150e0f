//! `mvm machine`: the process of one machine, which the supervisor starts. Standard input is its control channel.
//!
//! It comes before the command line and the asynchronous runtime: it has no use for either, and is to stay small.

use std::os::fd::AsFd;
use std::process::ExitCode;

use vmm::control::Channel;

/// The word that asks for it.
pub const WORD: &str = "machine";

/// Runs the machine to its end.
pub fn main() -> ExitCode {
    crate::cli::supervise::log_to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the machine process failed");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned()?;
    vmm::process::run(Channel::from_descriptor(descriptor)?)?;
    Ok(())
}
