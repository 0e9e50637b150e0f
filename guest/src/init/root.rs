//! The root of a kernel that was given an initial ramdisk: files in memory, on the first of all mounts. That has no parent,
//! and pivot_root, by which runc enters a container, refuses such a root (pivot_root(2)).

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount_bind, mount_move, mount_remount};
use rustix::process::{chdir, chroot};

use super::Error;

/// Any directory of every root.
const PLACE: &str = "/run";

/// Puts such a root on a mount of its own, over the first: the same files, and none of them copied. It is read-only from
/// then on, as a root image is.
pub(super) fn on_its_own_mount() -> Result<(), Error> {
    if !is_in_memory()? {
        return Ok(());
    }
    let failed = |source: rustix::io::Errno| Error::Root { source: source.into() };
    mount_bind("/", PLACE).map_err(failed)?;
    // What is moved over the root is not seen from the root, but it stays the working directory.
    chdir(PLACE).map_err(failed)?;
    mount_move(PLACE, "/").map_err(failed)?;
    chroot(".").map_err(failed)?;
    chdir("/").map_err(failed)?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "").map_err(failed)
}

/// On one of the file systems that a kernel unpacks a ramdisk into: ramfs or tmpfs (Linux, `include/uapi/linux/magic.h`).
fn is_in_memory() -> Result<bool, Error> {
    let found = statfs("/").map_err(|error| Error::Root { source: error.into() })?;
    Ok(matches!(found.f_type, 0x8584_58f6 | 0x0102_1994))
}
