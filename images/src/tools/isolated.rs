//! Runs programs inside a tool's root, for tools that are many programs which start each other by their usual paths.
//!
//! A user and a mount namespace make that possible without root: in there the caller may mount and chroot.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// In the new namespaces: shows the host's /dev and the working directory inside, and goes there.
const ENTER: &str = r#"set -eu
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/build"
root=$1
shift 2
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin HOME=/build TMPDIR=/build LC_ALL=C "$@""#;

/// The settings that forbid user namespaces: the value that does, and the one that lifts it.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "15000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
];

/// Why programs cannot run in a root of their own.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    #[error("cannot run unshare; install the package util-linux")]
    Missing(#[source] io::Error),
    #[error("this machine refuses user namespaces to you ({message}); {remedy}")]
    Refused { message: String, remedy: String },
}

/// Fails, with the remedy, where user namespaces are refused to this process.
pub fn check() -> Result<(), IsolationError> {
    let output = unshare().arg("true").output().map_err(IsolationError::Missing)?;
    if output.status.success() {
        return Ok(());
    }
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok();
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(IsolationError::Refused { message, remedy: remedy(read) })
}

/// A command that runs inside `root`, where the directory `work` is `/build`.
pub(crate) fn command(root: &Path, work: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = unshare();
    command.args(["/bin/sh", "-c", ENTER, "sh"]).arg(root).arg(work).arg(program);
    command
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--"]).stdin(Stdio::null());
    command
}

fn remedy(read: impl Fn(&str) -> Option<String>) -> String {
    let guilty =
        SETTINGS.iter().find(|(name, refuses, _)| read(name).is_some_and(|now| now.trim() == *refuses));
    match guilty {
        Some((name, _, allows)) => format!("allow them: sudo sysctl -w {name}={allows}"),
        None => "if this is a container, start it with a seccomp profile that allows unshare".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_the_setting_that_refuses() {
        let apparmor =
            |name: &str| (name == "kernel.apparmor_restrict_unprivileged_userns").then(|| "1\n".to_owned());
        assert_eq!(
            remedy(apparmor),
            "allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        );
        let maximum = |name: &str| (name == "user.max_user_namespaces").then(|| "0\n".to_owned());
        assert_eq!(remedy(maximum), "allow them: sudo sysctl -w user.max_user_namespaces=15000");
        let fine = |name: &str| (name == "user.max_user_namespaces").then(|| "96365\n".to_owned());
        assert!(remedy(fine).starts_with("if this is a container"));
    }
}
