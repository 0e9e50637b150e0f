//! runc, which makes a container of a bundle.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Bundle;
use crate::logs::Logs;
use crate::process::{Children, Exit, Program, SpawnError, capture};

/// Bundles as runc gets them: the root image cannot be written to.
const BUNDLES: &str = "/run/mvm/bundles";
/// runc's own state.
const STATE: &str = "/run/runc";
const PLACES: [&str; 4] = ["/usr/bin/runc", "/usr/sbin/runc", "/bin/runc", "/sbin/runc"];

/// How long interfaces of an earlier run may be in the way.
const EARLIER_RUN: Duration = Duration::from_secs(60);
/// How long is waited for the last lines of something that has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Why a container did not start or could not be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuncError {
    #[error("the root image has no runc ({})", PLACES.join(", "))]
    Missing,
    #[error("cannot write the bundle {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot capture the output of {container}: {source}")]
    Capture { container: String, source: io::Error },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Equip(#[from] super::Error),
    #[error("runc could not start {container}: {exit}")]
    Start { container: String, exit: Exit },
    #[error("runc could not remove what is left of {container}: {exit}")]
    Delete { container: String, exit: Exit },
    #[error("runc did not say which process {container} is ({})", path.display())]
    NoPid { container: String, path: PathBuf },
}

/// A container that runs, as a child of init.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pub(crate) end: oneshot::Receiver<Exit>,
    /// Reads what it prints until nobody can print any more.
    output: JoinHandle<()>,
}

/// The runc of the root image.
#[derive(Debug, Clone)]
pub(crate) struct Runc {
    program: PathBuf,
    children: Children,
    logs: Logs,
}

impl Runc {
    pub(crate) fn find(children: &Children, logs: &Logs) -> Result<Self, RuncError> {
        let program =
            PLACES.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or(RuncError::Missing)?;
        Ok(Self { program, children: children.clone(), logs: logs.clone() })
    }

    /// The program, for commands that a caller wants to run himself.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Words that stand before every command.
    pub(crate) fn global_args() -> [&'static str; 2] {
        ["--root", STATE]
    }

    /// Starts a container; its output goes to the logs of `source`. There must be no other of the name, not even one
    /// that has ended: see [`Self::delete`].
    pub(crate) async fn start(
        &self,
        bundle: &Bundle,
        source: &str,
        env: &[String],
    ) -> Result<Running, RuncError> {
        let directory = write_bundle(bundle, env)?;
        let (output, reading) = capture(&self.logs, source)
            .map_err(|source| RuncError::Capture { container: bundle.name.clone(), source })?;
        let made = self.make(bundle, &directory, &output).await;
        drop(output);
        match made {
            Ok((pid, end)) => Ok(Running { pid, end, output: reading }),
            Err(error) => {
                // runc's complaint is about to be in the logs; who reports the failure wants it there.
                drop(timeout(LAST_OUTPUT, reading).await);
                Err(error)
            }
        }
    }

    /// Makes and starts it with one program; with two where it has to be given something in between.
    async fn make(
        &self,
        bundle: &Bundle,
        directory: &Path,
        output: &OwnedFd,
    ) -> Result<(Pid, oneshot::Receiver<Exit>), RuncError> {
        let pid_file = directory.join("pid");
        let is_equipped = bundle.has_to_be_equipped();
        let patience = if pid_file.exists() { EARLIER_RUN } else { Duration::ZERO };
        let verb: &[&str] = if is_equipped { &["create"] } else { &["run", "--detach"] };
        let verb = verb.iter().map(AsRef::as_ref);
        let operands =
            ["--bundle".as_ref(), directory.as_os_str(), "--pid-file".as_ref(), pid_file.as_os_str()];
        self.tell(bundle, verb.chain(operands), output).await?;
        let pid = read_pid(&pid_file)
            .ok_or_else(|| RuncError::NoPid { container: bundle.name.clone(), path: pid_file })?;
        let end = self.children.end_of(pid.as_raw_nonzero().get().unsigned_abs());
        if is_equipped {
            bundle.equip(pid, patience).await?;
            self.tell(bundle, ["start".as_ref()].into_iter(), output).await?;
        }
        Ok((pid, end))
    }

    /// Runs a command of runc's about a container.
    async fn tell<'a>(
        &self,
        bundle: &Bundle,
        words: impl Iterator<Item = &'a OsStr>,
        output: &OwnedFd,
    ) -> Result<(), RuncError> {
        let program = Program::new(&self.program).args(Self::global_args()).args(words).args([&bundle.name]);
        match program.run_into(&self.children, output).await?.exit {
            exit if exit.success() => Ok(()),
            exit => Err(RuncError::Start { container: bundle.name.clone(), exit }),
        }
    }

    /// Kills what is left of a container and forgets it. No such container is fine.
    pub(crate) async fn delete(&self, container: &str, source: &str) -> Result<(), RuncError> {
        // runc says the same with --force, but to start it costs time.
        if !Path::new(STATE).join(container).exists() {
            return Ok(());
        }
        self.force_delete(container, source).await
    }

    async fn force_delete(&self, container: &str, source: &str) -> Result<(), RuncError> {
        let finished = Program::new(&self.program)
            .args(Self::global_args())
            .args(["delete", "--force", container])
            .run(&self.children, &self.logs, source)
            .await?;
        match finished.exit {
            exit if exit.success() => Ok(()),
            exit => Err(RuncError::Delete { container: container.to_owned(), exit }),
        }
    }
}

/// A container's name is a directory's name in a root image, so it holds no separator.
fn write_bundle(bundle: &Bundle, env: &[String]) -> Result<PathBuf, RuncError> {
    let directory = Path::new(BUNDLES).join(&bundle.name);
    let failed = |source| RuncError::Write { path: directory.clone(), source };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let document = bundle.spec.relocated(&bundle.rootfs, env);
    std::fs::write(directory.join("config.json"), document.to_string()).map_err(failed)?;
    Ok(directory)
}

fn read_pid(path: &Path) -> Option<Pid> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok().and_then(Pid::from_raw)
}

impl Running {
    /// Waits for its end, and until what it printed is in the logs.
    pub(crate) async fn wait(self) -> Option<Exit> {
        let exit = self.end.await.ok();
        // What it left in the background may go on printing; that is captured, but not waited for.
        drop(timeout(LAST_OUTPUT, self.output).await);
        exit
    }

    /// Sends a signal; that the process is gone already is fine.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reaper_of_a_test;

    #[tokio::test]
    async fn a_container_that_cannot_be_removed_is_an_error_and_one_that_is_not_there_is_none() {
        let (children, _turn) = reaper_of_a_test().await;
        let runc = Runc { program: "/bin/false".into(), children, logs: Logs::default() };
        let error = runc.force_delete("moby", "moby").await.unwrap_err().to_string();
        assert_eq!(error, "runc could not remove what is left of moby: exit status 1");
        runc.delete("no-such-container", "init").await.unwrap();
    }
}
