//! Starting a supervisor that outlives the command that starts it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::machine::{Launch, own_program};
use crate::instance::{Name, Paths, lock};

const LARGEST_LOG: u64 = 4 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The one thing that a supervisor prints on its standard output: it listens, or a sentence says why not.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Begun {
    Listening,
    /// Another supervisor holds the instance.
    Held(String),
    Refused(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open {}: {source}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot start the supervisor: {0}")]
    Start(#[from] io::Error),
    /// Another one was faster.
    #[error("{0}")]
    Held(String),
    #[error("{0}")]
    Refused(String),
    #[error("the supervisor ended, or did not answer within {} s; see {}", TIMEOUT.as_secs(), .0.display())]
    Silent(PathBuf),
}

/// A supervisor that has not begun yet: a command that is given up meanwhile, or hears nothing, leaves none behind.
struct Beginning(Option<Child>);

impl Beginning {
    fn has_begun(mut self) {
        self.0 = None;
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.start_kill();
        }
    }
}

/// Returns when the supervisor holds the lock and listens on its socket.
pub async fn spawn(name: &Name, paths: &Paths, launch: &Launch) -> Result<(), Error> {
    let log = open_log(&paths.supervisor_log())?;
    let mut child = Command::new(own_program()?)
        .args(["--instance", name.as_str(), "supervise"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let beginning = Beginning(Some(child));
    let silent = || Error::Silent(paths.supervisor_log());
    let mut answer = Vec::new();
    let talk = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(&serde_json::to_vec(launch)?).await?;
        }
        match stdout {
            Some(mut stdout) => stdout.read_to_end(&mut answer).await,
            None => Ok(0),
        }
    };
    tokio::time::timeout(TIMEOUT, talk).await.map_err(|_| silent())?.map_err(|_| silent())?;
    match serde_json::from_slice(&answer).map_err(|_| silent())? {
        Begun::Listening => {
            beginning.has_begun();
            Ok(())
        }
        Begun::Held(sentence) => Err(Error::Held(sentence)),
        Begun::Refused(sentence) => Err(Error::Refused(sentence)),
    }
}

/// Tells the command whether the supervisor has begun, and lets go of its pipe.
pub(super) fn report(begun: Result<(), &super::Error>) {
    let line = match begun {
        Ok(()) => Begun::Listening,
        Err(error @ super::Error::Lock(lock::Error::Held(_))) => Begun::Held(error.to_string()),
        Err(error) => Begun::Refused(error.to_string()),
    };
    let mut stdout = io::stdout();
    if let Ok(text) = serde_json::to_vec(&line) {
        // The command may have been killed meanwhile, and that is no reason not to go on.
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
    if let Err(error) = rustix::stdio::dup2_stdout(rustix::stdio::stderr()) {
        tracing::warn!(%error, "cannot let go of the standard output");
    }
}

/// Appends to the log; one that has become large is put aside first.
fn open_log(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Log { path: path.into(), source };
    if path.metadata().is_ok_and(|found| found.len() > LARGEST_LOG) {
        std::fs::rename(path, path.with_extension("log.1")).map_err(failed)?;
    }
    OpenOptions::new().append(true).create(true).open(path).map_err(failed)
}
