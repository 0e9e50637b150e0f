//! A program that runs for the user, with the signals that are meant for it.

use std::io::{self, IsTerminal};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind};

use super::Failure;
use crate::terminal;

/// Takes over from the system what asks this process to end, from its making on.
#[derive(Debug)]
pub(super) struct Ends {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// Where there is a terminal that may go: without one it may be that nobody is to hear it (`nohup`).
    hang_up: Option<unix::Signal>,
}

impl Ends {
    pub(super) fn listen() -> io::Result<Self> {
        let on_terminal = io::stderr().is_terminal();
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: on_terminal.then(|| unix::signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// The next one. May be dropped at any time; no signal is lost by it.
    pub(super) async fn next(&mut self) -> Signal {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = hung_up => Signal::HUP,
        }
    }
}

/// How this process ends by a signal.
pub(super) fn ended_by(signal: Signal) -> Failure {
    match signal {
        Signal::INT => Failure::Interrupted,
        signal => Failure::Status(u8::try_from(signal.as_raw().saturating_add(128)).unwrap_or(1)),
    }
}

/// Runs a program to its end. A signal that would end this process is the program's; the last one is returned, too.
pub(super) async fn run(mut command: Command, ends: &mut Ends) -> io::Result<(ExitStatus, Option<Signal>)> {
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut told = None;
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status?, told)),
            signal = ends.next() => {
                told = Some(signal);
                // A terminal has told the program as well.
                let has_it = signal == Signal::INT && terminal::is_stdin();
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(pid) = pid.filter(|_| !has_it) {
                    // It may have ended by now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// An exit status as a shell tells it.
pub(super) fn exit_status(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal().map(|signal| signal.saturating_add(128));
    status.code().or(by_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_ends_as_it_does_and_is_told_of_signals() {
        let mut ends = Ends::listen().unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let (status, told) = run(shell("exit 7"), &mut ends).await.unwrap();
        assert_eq!((exit_status(status), told), (7, None));
        // This process is told, and passes it on.
        let script = "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done";
        let (status, told) = run(shell(script), &mut ends).await.unwrap();
        assert_eq!((exit_status(status), told), (5, Some(Signal::TERM)));
        let (status, _) = run(shell("kill -KILL $$"), &mut ends).await.unwrap();
        assert_eq!(exit_status(status), 137);
        assert!(matches!(ended_by(Signal::TERM), Failure::Status(143)));
        assert!(run(Command::new("/no/such/program"), &mut ends).await.is_err());
    }
}
