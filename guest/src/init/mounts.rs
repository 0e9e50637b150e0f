//! The file systems that programs expect, and the links that devtmpfs lacks.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::Error;

struct Mount {
    kind: &'static str,
    on: &'static str,
    flags: MountFlags,
    options: &'static str,
    /// Without it nothing can work; the others may be missing from a kernel.
    required: bool,
}

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const STATE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// In this order: each may be the place of a later one.
const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", on: "/proc", flags: PLAIN, options: "", required: true },
    Mount { kind: "sysfs", on: "/sys", flags: PLAIN, options: "", required: true },
    Mount { kind: "devtmpfs", on: "/dev", flags: DEVICES, options: "mode=0755", required: true },
    Mount {
        kind: "devpts",
        on: "/dev/pts",
        flags: DEVICES,
        options: "gid=5,mode=0620,ptmxmode=0666",
        required: true,
    },
    Mount { kind: "tmpfs", on: "/dev/shm", flags: STATE, options: "mode=1777", required: true },
    Mount { kind: "mqueue", on: "/dev/mqueue", flags: PLAIN, options: "", required: false },
    Mount { kind: "tmpfs", on: "/run", flags: STATE, options: "mode=0755", required: true },
    Mount { kind: "tmpfs", on: "/tmp", flags: STATE, options: "mode=1777", required: true },
    Mount { kind: "tmpfs", on: "/var", flags: STATE, options: "mode=0755", required: true },
    Mount {
        kind: "cgroup2",
        on: "/sys/fs/cgroup",
        flags: PLAIN,
        options: "nsdelegate,memory_recursiveprot",
        required: true,
    },
    Mount { kind: "bpf", on: "/sys/fs/bpf", flags: PLAIN, options: "mode=0700", required: false },
    Mount { kind: "binfmt_misc", on: "/proc/sys/fs/binfmt_misc", flags: PLAIN, options: "", required: false },
];

/// Mounts everything, and makes the tree shared: what one service mounts below `/var/lib` another has to see. Returns
/// what failed of that which may be missing.
pub(super) fn mount_all() -> Result<Vec<Error>, Error> {
    let warnings = mount_each(MOUNTS)?;
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|error| Error::Set { what: "shared propagation on /", source: error.into() })?;
    for path in ["/var/lib", "/var/tmp", "/run/lock", "/run/resolvconf"] {
        make_directory(Path::new(path))?;
    }
    Ok(warnings)
}

fn mount_each(mounts: &[Mount]) -> Result<Vec<Error>, Error> {
    let mut warnings = Vec::new();
    for entry in mounts {
        match mount_one(entry) {
            Err(error) if !entry.required => warnings.push(error),
            result => result?,
        }
    }
    Ok(warnings)
}

fn mount_one(entry: &Mount) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Mount { kind: entry.kind, on: entry.on, source };
    // The root image is read-only and has the mount points of its own; those on devtmpfs are made here.
    if entry.on.starts_with("/dev/") {
        make_directory(Path::new(entry.on))?;
    }
    let options = CString::new(entry.options).map_err(|error| failed(error.into()))?;
    match mount(entry.kind, entry.on, entry.kind, entry.flags, Some(options.as_c_str())) {
        // The kernel may have mounted devtmpfs itself.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Make { path: path.to_owned(), source })
}

/// `/dev/fd` and its like, which shells and Dockerfiles use.
pub(super) fn device_links() -> Result<(), Error> {
    const LINKS: &[(&str, &str)] = &[
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in LINKS {
        match symlink(target, link) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::Make { path: PathBuf::from(link), source });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_missing_is_a_warning_and_what_may_not_is_an_error() {
        let entry =
            |required| Mount { kind: "nofs", on: "/nonexistent", flags: PLAIN, options: "", required };
        let warnings = mount_each(&[entry(false), entry(false)]).unwrap();
        assert_eq!(warnings.len(), 2);
        let error = mount_each(&[entry(false), entry(true)]).unwrap_err().to_string();
        assert!(error.starts_with("cannot mount nofs on /nonexistent: "), "{error}");
    }
}
