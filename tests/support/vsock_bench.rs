//! The example `vsock_bench` of the crate `vmm`: a guest that echoes, swallows and sends, and nothing else, behind our
//! own vsock device. It checks all that it measures.

use std::path::PathBuf;
use std::process::Command;

use super::{Appliance, TOP, run};

/// The example and its guest, optimized.
#[derive(Debug)]
pub struct VsockBench {
    program: PathBuf,
    guest: PathBuf,
}

impl VsockBench {
    pub fn built() -> Self {
        Self {
            program: example("vsock_bench", &[]),
            guest: example("vsock_guest", &["-C", "target-feature=+crt-static"]),
        }
    }

    /// One run on the appliance's kernel.
    pub fn command(&self, appliance: &Appliance) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&appliance.kernel).arg(&self.guest).args(&appliance.qemu);
        command
    }
}

/// Builds an example of `vmm`; where it lies.
fn example(name: &str, rustc_arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(TOP).args(["rustc", "--release", "--locked", "-p", "vmm", "--example", name]);
    let printed = run(command.args(["--message-format", "json", "--"]).args(rustc_arguments)).ok();
    let artifacts = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable =
        artifacts.filter_map(|artifact| Some(artifact["executable"].as_str()?.into())).next_back();
    executable.unwrap_or_else(|| panic!("cargo names no executable for {name}"))
}
