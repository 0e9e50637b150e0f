//! What both machines need of their kernel.

use std::fs;
use std::process::Command;

use rustix::mount::{MountFlags, mount};

use crate::Outcome;

pub(crate) fn mount_kernels_own() -> Outcome<()> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_new(kind, at)?;
    }
    Ok(())
}

pub(crate) fn mount_new(kind: &str, at: &str) -> Outcome<()> {
    fs::create_dir_all(at)?;
    mount(kind, at, kind, MountFlags::empty(), None)
        .map_err(|error| format!("cannot mount {at}: {error}"))?;
    Ok(())
}

/// One of busybox's programs, to its end.
pub(crate) fn busybox(words: &[&str]) -> Outcome<()> {
    let status = Command::new("/bin/busybox").args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("busybox {}: {status}", words.join(" ")).into()) }
}
