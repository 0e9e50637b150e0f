//! Starting a program and waiting for it through the reaper.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::capture::capture;
use super::reaper::{Children, Exit};
use crate::logs::Logs;

/// Why a program could not be run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot make a pipe for the output of {}: {source}", program.display())]
    Pipe { program: PathBuf, source: io::Error },
    #[error("nothing waits for processes any more")]
    NoReaper,
}

/// A program to run, its output going to the logs.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    path: PathBuf,
}

/// How a program that was waited for ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) exit: Exit,
}

impl Program {
    pub(crate) fn new(path: &Path) -> Self {
        let mut command = Command::new(path);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        Self { command, path: path.to_owned() }
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &OsStr) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs the program to its end; both its outputs go to `output`.
    pub(crate) async fn run_into(
        mut self,
        children: &Children,
        output: &OwnedFd,
    ) -> Result<Finished, SpawnError> {
        let path = self.path.clone();
        let duplicate = || {
            output
                .try_clone()
                .map(Stdio::from)
                .map_err(|source| SpawnError::Pipe { program: path.clone(), source })
        };
        self.command.stdout(duplicate()?).stderr(duplicate()?);
        self.wait(children).await
    }

    /// Runs the program to its end; both its outputs go to the logs of `source`.
    pub(crate) async fn run(
        self,
        children: &Children,
        logs: &Logs,
        source: &str,
    ) -> Result<Finished, SpawnError> {
        let (output, reading) = capture(logs, source)
            .map_err(|source| SpawnError::Pipe { program: self.path.clone(), source })?;
        let finished = self.run_into(children, &output).await;
        drop(output);
        // A grandchild that keeps the pipe open must not keep us: what it writes is still captured.
        drop(tokio::time::timeout(std::time::Duration::from_millis(200), reading).await);
        finished
    }

    async fn wait(mut self, children: &Children) -> Result<Finished, SpawnError> {
        let child = self
            .command
            .spawn()
            .map_err(|source| SpawnError::Start { program: self.path.clone(), source })?;
        children.started(child.id());
        let end = children.end_of(child.id());
        drop(self);
        Ok(Finished { exit: end.await.map_err(|_| SpawnError::NoReaper)? })
    }
}
