//! Debian's own clients and registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{TOP, run};

/// A program of `scripts/unpack-tools --clients`.
pub fn tool(name: &str) -> PathBuf {
    directory().join("bin").join(name)
}

/// Docker's client, with buildx, for the daemon at this socket.
pub fn docker(socket: &Path) -> Command {
    client(tool("docker"), socket)
}

/// Its buildx alone, for the same daemon.
pub fn buildx(socket: &Path) -> Command {
    client(directory().join("cli-plugins/docker-buildx"), socket)
}

/// The suites of Debian whose buildx there is.
pub const BUILDX: [&str; 2] = ["forky", "trixie"];

/// Docker's client with a configuration of its own and the buildx of one of these suites, told of no daemon.
pub fn docker_configured_by(configuration: &Path, suite: &str) -> Command {
    let plugins = match suite {
        "forky" => directory().join("cli-plugins"),
        other => directory().join(other).join("cli-plugins"),
    };
    let link = configuration.join("cli-plugins");
    if !link.exists() {
        std::os::unix::fs::symlink(plugins, link).expect("the plugins are linked to");
    }
    let mut command = Command::new(tool("docker"));
    command.env("DOCKER_CONFIG", configuration).env_remove("DOCKER_HOST");
    without_builder(&mut command);
    command
}

fn client(program: PathBuf, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("DOCKER_CONFIG", directory()).env("DOCKER_HOST", format!("unix://{}", socket.display()));
    without_builder(&mut command);
    command
}

fn without_builder(command: &mut Command) {
    for variable in ["DOCKER_CONTEXT", "BUILDX_BUILDER", "BUILDX_CONFIG", "BUILDKIT_HOST"] {
        command.env_remove(variable);
    }
}

/// Puts a QEMU into a directory that is older than any that mvm takes.
pub fn old_qemu(directory: &Path) {
    let program = directory.join("qemu-system-x86_64");
    std::fs::write(&program, "#!/bin/sh\necho 'QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7)'\n")
        .expect("the program is written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("the program is made executable");
}

/// The directory of `scripts/unpack-tools --rig`: a Linux that has KVM, and what runs in it.
pub fn rig_files() -> PathBuf {
    let printed = run(Command::new(format!("{TOP}/scripts/unpack-tools")).arg("--rig")).ok();
    Path::new(printed.trim()).join("rig")
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let printed = run(Command::new(format!("{TOP}/scripts/unpack-tools")).arg("--clients")).ok();
        PathBuf::from(printed.trim())
    })
}
