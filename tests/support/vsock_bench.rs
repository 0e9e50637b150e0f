//! The example `vsock_bench` of the crate `vmm`: a guest that echoes, swallows and sends, and nothing else, behind our
//! own vsock device. It checks all that it measures.

use std::path::PathBuf;
use std::process::Command;

use super::Appliance;
use super::artifact::{STATIC, built};

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

    /// One run on the appliance's kernel.
    pub fn command(&self, appliance: &Appliance) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&appliance.kernel).arg(&self.guest).args(&appliance.qemu);
        command
    }
}
