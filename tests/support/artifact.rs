//! Programs of this workspace that only tests want.

use std::path::PathBuf;
use std::process::Command;

use super::{TOP, run};

/// rustc's arguments for a program that needs nothing of the machine that it runs on.
pub const STATIC: &[&str] = &["-C", "target-feature=+crt-static"];

/// Builds one target of a package, as `["--example", "NAME"]`, optimized; where the program lies.
pub fn built(package: &str, target: [&str; 2], rustc_arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(TOP).args(["rustc", "--release", "--locked", "-p", package]).args(target);
    let printed =
        run(command.args(["--message-format", "json-render-diagnostics", "--"]).args(rustc_arguments)).ok();
    let artifacts = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable =
        artifacts.filter_map(|artifact| Some(artifact["executable"].as_str()?.into())).next_back();
    executable.unwrap_or_else(|| panic!("cargo names no executable for {target:?} of {package}"))
}
