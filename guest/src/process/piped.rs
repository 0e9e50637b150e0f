//! A program whose input and output are init's to write and read.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;

use super::reaper::{Children, Exit};

/// The lowest priority there is (setpriority(2)).
const LOWEST: i32 = 19;

/// A program that runs, killed when this is dropped before it has ended.
#[derive(Debug)]
pub(crate) struct Piped {
    pub(crate) pid: u32,
    pub(crate) stdin: Option<Sender>,
    pub(crate) stdout: Receiver,
    pub(crate) end: oneshot::Receiver<Exit>,
    ended: bool,
}

impl Piped {
    /// Starts a program at the lowest priority; what it says on stderr is dropped.
    pub(crate) fn start(children: &Children, program: &Path, args: &[&str]) -> io::Result<Self> {
        let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(program);
        command.args(args).env_clear().stdin(stdin).stdout(stdout).stderr(std::process::Stdio::null());
        let child = command.spawn()?;
        drop(command);
        children.started(child.id());
        let end = children.end_of(child.id());
        let mut piped = Self::joined(child.id(), to_stdin, from_stdout, end)?;
        if let Some(pid) = piped.raw_pid() {
            // It is a courtesy to the services that start beside it; the test is as good without.
            let _ = setpriority_process(Some(pid), LOWEST);
        } else {
            piped.ended = true;
        }
        Ok(piped)
    }

    fn joined(pid: u32, stdin: OwnedFd, stdout: OwnedFd, end: oneshot::Receiver<Exit>) -> io::Result<Self> {
        let stdin = Some(Sender::from_owned_fd(stdin)?);
        let stdout = Receiver::from_owned_fd(stdout)?;
        Ok(Self { pid, stdin, stdout, end, ended: false })
    }

    /// Waits for the end.
    pub(crate) async fn wait(&mut self) -> Option<Exit> {
        let exit = (&mut self.end).await.ok();
        self.ended = true;
        exit
    }

    fn raw_pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if let (false, Some(pid)) = (self.ended, self.raw_pid()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
