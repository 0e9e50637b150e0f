//! The product where KVM is: `mvm up --accel kvm`, in the rig or on this machine.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::{Outcome, Parts, Processes, run};

/// An instance with directories of its own, where KVM is.
#[derive(Debug)]
pub struct KvmInstance {
    home: TempDir,
}

impl KvmInstance {
    /// Directories for one that has not been started.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory for the instance");
        for directory in ["run", "state", "cache", "config"] {
            fs::create_dir(home.path().join(directory)).expect("a directory of the instance's");
        }
        Self { home }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let parts = Parts::here();
        let mut command = Command::new(&parts.mvm);
        command.args(arguments).env("HOME", self.home.path()).env("XDG_DATA_HOME", &parts.data);
        for (variable, directory) in [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
        ] {
            command.env(variable, self.home.path().join(directory));
        }
        command
    }

    pub fn processes(&self) -> Processes {
        Processes::of(self.home.path())
    }

    #[track_caller]
    pub fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }
}

/// A test that fails leaves no machine.
impl Drop for KvmInstance {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}
