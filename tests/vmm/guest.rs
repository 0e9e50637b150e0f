//! A guest of `mvm vmm` that does one thing, `rig-init`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Outcome, Parts, Running, eventually, run, start};

/// What a guest says first when it runs on KVM.
const ENGINE: &str = "on KVMKVMKVM";

/// What it is made of; see tests/rig/src/init/guest for what it can do.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    action: String,
    is_kernel_foreign: bool,
    cpus: u8,
    disks: Vec<String>,
    network: Option<PathBuf>,
    console: Option<PathBuf>,
    balloon: Option<String>,
}

impl Guest {
    /// The action, and with it the words of the kernel's command line that it asks for.
    pub(crate) fn doing(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            is_kernel_foreign: false,
            cpus: 1,
            disks: Vec::new(),
            network: None,
            console: None,
            balloon: None,
        }
    }

    /// On Debian's kernel, which has no driver for this console and prints to the serial port.
    pub(crate) fn on_a_foreign_kernel(self) -> Self {
        Self { is_kernel_foreign: true, ..self }
    }

    pub(crate) fn cpus(self, cpus: u8) -> Self {
        Self { cpus, ..self }
    }

    /// As `--disk` takes it.
    pub(crate) fn disk(mut self, disk: impl Into<String>) -> Self {
        self.disks.push(disk.into());
        self
    }

    /// A network process's socket.
    pub(crate) fn network(self, socket: &Path) -> Self {
        Self { network: Some(socket.to_owned()), ..self }
    }

    /// As `--balloon` takes it.
    pub(crate) fn balloon(self, size: &str) -> Self {
        Self { balloon: Some(size.to_owned()), ..self }
    }

    /// A file instead of standard output.
    pub(crate) fn console(self, path: &Path) -> Self {
        Self { console: Some(path.to_owned()), ..self }
    }

    pub(crate) fn command(&self) -> Command {
        let parts = Parts::here();
        let mut command = Command::new(&parts.mvm);
        let (kernel, console) =
            if self.is_kernel_foreign { (&parts.foreign_kernel, "ttyS0") } else { (&parts.kernel, "hvc0") };
        command.arg("vmm").arg("--kernel").arg(kernel).arg("--initrd").arg(&parts.initrd);
        let line = format!("console={console} quiet panic=-1 rdinit=/init rig.do={}", self.action);
        command.args(["--accel", "kvm", "--cmdline", &line, "--cpus", &self.cpus.to_string()]);
        for disk in &self.disks {
            command.args(["--disk", disk]);
        }
        if let Some(socket) = &self.network {
            command.arg("--net").arg(socket);
        }
        if let Some(balloon) = &self.balloon {
            command.args(["--balloon", balloon]);
        }
        if let Some(console) = &self.console {
            command.arg("--console").arg(console);
        }
        command
    }

    /// To the guest's end.
    #[track_caller]
    pub(crate) fn run(&self) -> Outcome {
        run(&mut self.command())
    }

    /// Returns when a guest with a console of its own has said this.
    #[track_caller]
    pub(crate) fn start_and_hear(&self, word: &str) -> Running {
        let console = self.console.as_deref().expect("the guest has a console of its own");
        // Of the machine before.
        let _ = fs::remove_file(console);
        let mut running = start(&mut self.command());
        eventually(&format!("\"{word}\" from the guest"), 300, || {
            let printed = String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned();
            assert!(running.is_running(), "it ended: {printed} {running:?}");
            let said = said(&printed);
            if !said.iter().any(|line| line == word) {
                return Err(printed);
            }
            assert_eq!(said[0], ENGINE, "{printed}");
            Ok(())
        });
        running
    }

    /// To its end, for one that powers off after it has done what it should; what it said of it.
    #[track_caller]
    pub(crate) fn done(&self) -> Vec<String> {
        let outcome = self.run();
        assert_eq!(outcome.status, 0, "{outcome}");
        let mut said = said(&outcome.stdout);
        assert_eq!(said.pop().as_deref(), Some("done"), "{outcome}");
        assert!(!said.is_empty() && said.remove(0) == ENGINE, "{outcome}");
        said
    }
}

/// The lines by which a guest tells a test something.
pub(crate) fn said(console: &str) -> Vec<String> {
    console.lines().filter_map(|line| line.trim_end().strip_prefix("rig: ")).map(str::to_owned).collect()
}
