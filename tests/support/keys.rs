//! A key for ssh, and an agent of its own.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Running, eventually, run, start};

/// A key pair, and an agent that has it as long as this lives.
#[derive(Debug)]
pub struct Keys {
    directory: TempDir,
    _agent: Running,
}

impl Keys {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory for keys");
        let socket = directory.path().join("agent");
        let agent = start(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket));
        eventually("the agent listens", 300, || {
            UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string())
        });
        let keys = Self { directory, _agent: agent };
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.key())).ok();
        keys.ask(&["-q", keys.key().to_str().expect("the path is UTF-8")]);
        keys
    }

    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    pub fn ask(&self, arguments: &[&str]) -> String {
        run(Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", self.socket())).ok()
    }
}
