//! What LinuxKit adds to each image and takes from it (moby/build/image.go): images are made for Docker, which puts these files
//! into a container itself, and so most have none, or those of the container in which they were built.

use std::sync::Arc;

use crate::provenance::Origin;
use crate::rootfs::{Entry, Node, Tree};

/// Docker's own, and those of one container.
const DROPPED: [&str; 6] = [".dockerenv", "Dockerfile", "dev/console", "dev/pts", "dev/shm", "etc/hostname"];
/// What a container mounts over, also where nothing can be made.
const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const HOSTS: &str = "127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
";
const NO_RESOLVER: &str = "\n# no resolv.conf configured\n";

/// An image of others as a container gets it. Where the way to a file leads out of what can be followed, there is none.
pub(super) fn dress(tree: &mut Tree, origin: &Arc<Origin>) {
    for path in DROPPED {
        if let Some(path) = tree.place(path) {
            tree.remove(&path);
        }
    }
    for path in DIRECTORIES {
        if let Some(path) = tree.place(path) {
            tree.ensure_directory(&path, origin);
        }
    }
    for (path, text) in [("etc/hosts", HOSTS), ("etc/resolv.conf", NO_RESOLVER)] {
        if let Some(path) = tree.place(path) {
            let new = Entry::file(0o644, text.as_bytes()).of(origin);
            // One that is there stays whose it is.
            let entry = match tree.get(&path) {
                Some(Entry { node: Node::File(_), mode, uid, gid, .. }) => {
                    Entry { mode: *mode, uid: *uid, gid: *gid, ..new }
                }
                _ => new,
            };
            tree.put(&path, entry);
        }
    }
    if let Some(path) = tree.place("etc/mtab").filter(|path| tree.get(path).is_none()) {
        tree.put(&path, Entry::symlink("/proc/mounts").of(origin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Material;

    #[test]
    fn a_container_has_what_docker_would_have_put_into_it() {
        let mut tree = Tree::default();
        tree.put("etc/hosts", Entry { uid: 7, ..Entry::file(0o640, *b"10.0.0.7 built-here") });
        tree.put("etc/hostname", Entry::file(0o644, *b"built-here"));
        tree.put("etc/mtab", Entry::file(0o600, *b"own"));
        tree.put("dev/shm/left", Entry::file(0o644, *b"x"));
        tree.put("sys", Entry::directory(0o555));
        tree.put(".dockerenv", Entry::file(0o755, *b""));
        dress(&mut tree, &Arc::new(Origin::own(Material::Docker)));
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        let expected =
            ["dev", "dev/pts", "dev/shm", "etc", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys"];
        assert_eq!(paths, expected);
        assert_eq!(tree.get("etc/hosts"), Some(&Entry { uid: 7, ..Entry::file(0o640, HOSTS.as_bytes()) }));
        assert_eq!(tree.get("etc/mtab"), Some(&Entry::file(0o600, *b"own")));
        assert_eq!(tree.get("sys").unwrap().mode, 0o555);
    }

    #[test]
    fn links_are_followed_and_not_written_below() {
        let mut tree = Tree::default();
        tree.put("etc", Entry::symlink("usr/etc"));
        tree.put("usr/etc/x", Entry::file(0o644, *b"x"));
        tree.put("dev", Entry::symlink("dev"));
        tree.put("proc", Entry::file(0o644, *b"no directory"));
        dress(&mut tree, &Arc::new(Origin::own(Material::Docker)));
        assert!(tree.file("usr/etc/hosts").is_some() && tree.get("etc/hosts").is_none());
        assert!(tree.below("dev").next().is_none());
        assert!(tree.file("proc").is_some());
    }
}
