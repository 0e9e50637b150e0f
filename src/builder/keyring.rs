//! Private keys for a build, held by an agent of OpenSSH's own: it reads every kind of key and asks for their passphrases.
//!
//! The agent lives as long as the build. It runs a shell that waits for the end of its input, which is ours to close: so the agent
//! ends whatever becomes of this process.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use thiserror::Error;

/// Says that the agent listens, then waits.
const WAIT: &str = "echo; cat > /dev/null; kill \"$SSH_AGENT_PID\"";

/// An agent with some keys.
#[derive(Debug)]
pub(super) struct Keyring {
    shell: Child,
    /// The agent's socket is in it.
    directory: TempDir,
}

/// Why keys cannot be used.
#[derive(Debug, Error)]
pub enum KeyringError {
    #[error(
        "cannot start {program}, which keeps the keys of --ssh; install OpenSSH's client, or give the socket of an agent"
    )]
    Start {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("ssh-agent, which should keep the keys of --ssh, ended at once")]
    Agent,
    #[error("ssh-add does not take {0:?}, which --ssh names; it says above why")]
    Key(PathBuf),
}

impl Keyring {
    /// An agent with the keys of these files. Who has to be asked for a passphrase is asked.
    pub(super) fn of(keys: &[PathBuf]) -> Result<Self, KeyringError> {
        let failed = |program| move |source| KeyringError::Start { program, source };
        let directory = TempDir::new().map_err(failed("ssh-agent"))?;
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(socket(&directory)).args(["sh", "-c", WAIT]);
        let shell =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed("ssh-agent"))?;
        let mut keyring = Self { shell, directory };
        let mut listens = [0];
        let read = keyring.shell.stdout.as_mut().map(|stdout| stdout.read_exact(&mut listens));
        read.and_then(Result::ok).ok_or(KeyringError::Agent)?;
        for key in keys {
            let mut command = Command::new("ssh-add");
            command.arg("-q").arg(key).env("SSH_AUTH_SOCK", keyring.socket());
            if !command.status().map_err(failed("ssh-add"))?.success() {
                return Err(KeyringError::Key(key.clone()));
            }
        }
        Ok(keyring)
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join(Path::new("agent"))
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // Closes its input.
        let _ = self.shell.wait();
    }
}
