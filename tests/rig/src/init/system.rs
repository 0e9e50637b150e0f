//! What both machines need of their kernel.

use std::fs;
use std::process::Command;

use rustix::mount::{MountFlags, mount, mount_move};

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

/// Moves everything from the initial ramdisk to a file system of its own: in a ramdisk neither user namespaces nor
/// `pivot_root`, which passt needs, can be had.
pub(crate) fn leave_ramdisk() -> Outcome<()> {
    const NEW: &str = "/new";
    const KERNELS: [&str; 3] = ["proc", "sys", "dev"];
    fs::create_dir_all(NEW)?;
    mount("tmpfs", NEW, "tmpfs", MountFlags::empty(), Some(c"size=90%"))?;
    for entry in fs::read_dir("/")? {
        let name = entry?.file_name().into_string().map_err(|name| format!("{name:?} is no UTF-8"))?;
        let path = format!("/{name}");
        if path == NEW {
            continue;
        }
        if KERNELS.contains(&name.as_str()) {
            fs::create_dir_all(format!("{NEW}{path}"))?;
            mount_move(&path, format!("{NEW}{path}"))?;
            continue;
        }
        busybox(&["cp", "-a", &path, NEW])?;
        // The one program is needed until the end; the room of the rest is wanted.
        if name != "bin" {
            busybox(&["rm", "-rf", &path])?;
        }
    }
    rustix::process::chdir(NEW)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// One of busybox's programs, to its end.
pub(crate) fn busybox(words: &[&str]) -> Outcome<()> {
    let status = Command::new("/bin/busybox").args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("busybox {}: {status}", words.join(" ")).into()) }
}
