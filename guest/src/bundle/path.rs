//! Where a path that a container's configuration names lies in the guest.

use std::path::{Component, Path, PathBuf};

/// Directories that an applet shares with the guest rather than has in its own root.
const GUESTS_OWN: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/var"];

/// The path as it is for the guest's own directories, below `rootfs` for all others. `..` stops at the root, as in a
/// container.
pub(crate) fn resolve(rootfs: &Path, path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if GUESTS_OWN.iter().any(|own| clean.starts_with(own)) {
        return clean;
    }
    rootfs.join(clean.strip_prefix("/").unwrap_or(&clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guests_own_directories_are_not_below_the_root() {
        let resolve = |path| resolve(Path::new("/c/rootfs"), path);
        assert_eq!(resolve("/etc/sysctl.d"), Path::new("/c/rootfs/etc/sysctl.d"));
        assert_eq!(resolve("/dev/vdb"), Path::new("/dev/vdb"));
        assert_eq!(resolve("/var/lib"), Path::new("/var/lib"));
        assert_eq!(resolve("/devices"), Path::new("/c/rootfs/devices"));
        assert_eq!(resolve("/../../etc/passwd"), Path::new("/c/rootfs/etc/passwd"));
        assert_eq!(resolve("/etc/../var/lib"), Path::new("/var/lib"));
    }
}
