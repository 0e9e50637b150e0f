//! The example `vsock_bench` of the crate `vmm`: a guest that echoes, swallows and sends, and nothing else, behind our
//! own vsock device. It checks all that it measures.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::artifact::{STATIC, built};
use super::{Appliance, place};

/// The example and its guest, optimized.
#[derive(Debug)]
pub struct VsockBench {
    program: PathBuf,
    guest: PathBuf,
}

impl VsockBench {
    pub fn built() -> Self {
        Self {
            program: built("vmm", ["--example", "vsock_bench"], &[]),
            guest: built("vmm", ["--example", "vsock_guest"], STATIC),
        }
    }

    /// Those of the place where this program runs; see [`super::on_kvm`].
    pub fn here() -> Self {
        place::inside().map_or_else(Self::built, |directory| Self::below(&directory))
    }

    /// Where they are inside the rig.
    fn below(directory: &Path) -> Self {
        Self { program: directory.join("vsock_bench"), guest: directory.join("vsock_guest") }
    }

    /// By the names that [`VsockBench::here`] knows them by inside the rig.
    pub(super) fn files(&self) -> [(&'static str, &Path); 2] {
        [("vsock_bench", &self.program), ("vsock_guest", &self.guest)]
    }

    /// One run on the appliance's kernel, with QEMU as its processor.
    pub fn command(&self, appliance: &Appliance) -> Command {
        let mut command = self.on_kvm(&appliance.kernel);
        command.args(&appliance.qemu);
        command
    }

    /// One run on a machine of our own.
    pub fn on_kvm(&self, kernel: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(kernel).arg(&self.guest);
        command
    }
}
