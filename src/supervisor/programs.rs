//! The programs that a machine needs on this host: QEMU and passt. The host's own are used where they are recent enough;
//! otherwise mvm unpacks newer ones from packages into its own directory.

use std::process::{Command, Stdio};

use images::progress::Progress;
use images::tools::{self, ToolError};
use images::{Directories, Pins};

use vmm::engine::tcg::{TcgError, Version};

use super::passt;

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Host(TcgError),
    #[error(
        "no usable QEMU: {why}, and one of mvm's own cannot be unpacked; install QEMU 10 or newer ({package})"
    )]
    Qemu { why: String, package: &'static str, source: Box<ToolError> },
    #[error(
        "no usable passt: {why}, and one of mvm's own cannot be unpacked; install the package passt, of 2024-09 or newer"
    )]
    Passt { why: String, source: Box<ToolError> },
    #[error("the unpacked QEMU does not work: {0}")]
    OwnQemu(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A command that starts QEMU, at least version 10.
pub fn qemu(directories: &Directories, pins: Pins, progress: &dyn Progress) -> Result<Vec<String>, Error> {
    let why = match host_qemu() {
        Ok(_) => return Ok(own_qemu()),
        Err(error @ TcgError::Host) => return Err(Error::Host(error)),
        Err(error) => error.to_string(),
    };
    tracing::info!(why, "the host's QEMU is not used");
    let package = "package qemu-system-x86";
    let tool = tools::ensure("qemu", directories, pins, progress).map_err(|source| Error::Qemu {
        why,
        package,
        source: Box::new(source),
    })?;
    vmm::engine::tcg::check(&tool.command).map_err(|error| Error::OwnQemu(Box::new(error)))?;
    Ok(tool.command)
}

/// A command that starts a passt which keeps the guest from the host's loopback.
pub fn passt(directories: &Directories, pins: Pins, progress: &dyn Progress) -> Result<Vec<String>, Error> {
    let why = match host_passt() {
        Ok(()) => return Ok(own_passt()),
        Err(why) => why,
    };
    tracing::info!(why, "the host's passt is not used");
    let tool = tools::ensure("passt", directories, pins, progress)
        .map_err(|error| Error::Passt { why, source: Box::new(error) })?;
    Ok(tool.command)
}

fn own_qemu() -> Vec<String> {
    vec![format!("qemu-system-{}", std::env::consts::ARCH)]
}

fn own_passt() -> Vec<String> {
    vec!["passt".to_owned()]
}

/// The version of the host's own QEMU, or why it cannot be used.
pub fn host_qemu() -> Result<Version, TcgError> {
    vmm::engine::tcg::check(&own_qemu())
}

/// Whether the host's own passt can be used, or why not.
pub fn host_passt() -> Result<(), String> {
    match help(&own_passt()) {
        Ok(text) if passt::is_recent(&text) => Ok(()),
        Ok(_) => Err("the host's passt is too old: it lets a guest reach the host's loopback".to_owned()),
        Err(error) => Err(format!("passt cannot be started ({error})")),
    }
}

fn help(command: &[String]) -> std::io::Result<String> {
    let program = command.first().map_or("", String::as_str);
    let output = Command::new(program).arg("--help").stdin(Stdio::null()).output()?;
    // Some versions print their help to stderr.
    Ok([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}
