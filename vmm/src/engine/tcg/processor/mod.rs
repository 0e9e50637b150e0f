//! A running QEMU.

mod arguments;
mod ending;
mod monitor;

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use self::arguments::{Descriptors, arguments};
pub(crate) use self::ending::outcome;
pub(crate) use self::monitor::Said;
#[cfg(feature = "fuzzing")]
pub(crate) use self::monitor::follow;
use super::kernel_arguments;
use super::machine::Machine;
use crate::platform::inherit_and_follow_parent;

/// What leads out of the machine.
#[derive(Debug)]
pub(crate) struct Wires {
    /// The vhost-user connection to our vsock device; a machine without one has no such device.
    pub(crate) vsock: Option<OwnedFd>,
    /// Takes what the guest prints.
    pub(crate) console: OwnedFd,
    /// The stream to the network process; a machine without one has no network.
    pub(crate) network: Option<OwnedFd>,
}

/// Why QEMU does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error("no QEMU program is named")]
    NoCommand,
    #[error("cannot make a monitor socket")]
    Monitor(#[source] io::Error),
    #[error("cannot start {0}")]
    Spawn(String, #[source] io::Error),
    #[error("cannot start a thread that listens to QEMU")]
    Thread(#[source] io::Error),
    #[error("cannot wait for QEMU")]
    Wait(#[source] io::Error),
}

/// What QEMU reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    Said(Said),
    /// It has ended: its standard error is closed.
    Ended,
}

/// QEMU, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Processor {
    child: Child,
    words: Option<JoinHandle<String>>,
    monitor: Option<JoinHandle<()>>,
}

/// QEMU's last words are kept up to so many bytes.
const LAST_WORDS: usize = 2048;
const LONGEST_LINE: u64 = 4096;
/// So many lines of QEMU's are logged: what it says may be a guest's doing, and the log is to stay small.
const LOGGED_LINES: u32 = 1000;

impl Processor {
    /// Starts QEMU. Has to be called from a thread that lives as long as the machine: QEMU is killed when that thread ends.
    pub(crate) fn start(
        command: &[String],
        machine: &Machine,
        wires: Wires,
        report: impl Fn(Report) + Clone + Send + 'static,
    ) -> Result<Self, ProcessorError> {
        let (program, before) = command.split_first().ok_or(ProcessorError::NoCommand)?;
        let (ours, theirs) = UnixStream::pair().map_err(ProcessorError::Monitor)?;
        let descriptors = Descriptors {
            vsock: wires.vsock.as_ref().map(AsRawFd::as_raw_fd),
            monitor: theirs.as_raw_fd(),
            console: wires.console.as_raw_fd(),
            network: wires.network.as_ref().map(AsRawFd::as_raw_fd),
        };
        let mut qemu = Command::new(program);
        qemu.args(before).args(arguments(machine, descriptors, &kernel_arguments()));
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut inherited = vec![descriptors.monitor, descriptors.console];
        inherited.extend(descriptors.vsock.into_iter().chain(descriptors.network));
        inherit_and_follow_parent(&mut qemu, inherited);
        let mut child = qemu.spawn().map_err(|error| ProcessorError::Spawn(program.clone(), error))?;
        drop((theirs, wires));

        let stderr = child.stderr.take();
        let mut processor = Self { child, words: None, monitor: None };
        let told = report.clone();
        let words = thread("qemu-words", move || {
            let words = stderr.map(last_words).unwrap_or_default();
            told(Report::Ended);
            words
        })?;
        processor.words = Some(words);
        let monitor = thread("qemu-monitor", move || {
            if let Err(error) = monitor::follow(ours, |said| report(Report::Said(said))) {
                tracing::debug!(%error, "QEMU's monitor ended");
            }
        })?;
        processor.monitor = Some(monitor);
        Ok(processor)
    }

    pub(crate) fn kill(&mut self) {
        // Fails only when it has already ended.
        let _ = self.child.kill();
    }

    /// Waits for the end; QEMU's exit status and its last words.
    pub(crate) fn wait(mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        Ok((status, self.join()))
    }

    fn join(&mut self) -> String {
        if let Some(monitor) = self.monitor.take() {
            let _ = monitor.join();
        }
        self.words.take().and_then(|words| words.join().ok()).unwrap_or_default()
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
        self.join();
    }
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ProcessorError> {
    crate::thread::named(name).spawn(work).map_err(ProcessorError::Thread)
}

/// Logs what QEMU says until it closes its standard error, and returns the end of it.
fn last_words(stderr: ChildStderr) -> String {
    let mut reader = BufReader::new(stderr);
    let mut kept = String::new();
    let mut lines = 0_u32;
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return kept.trim().to_owned(),
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                lines = lines.saturating_add(1);
                if lines <= LOGGED_LINES {
                    tracing::warn!("qemu: {}", line.trim_end());
                }
                kept.push_str(&line);
                let too_much = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..kept.ceil_char_boundary(too_much));
            }
        }
    }
}
