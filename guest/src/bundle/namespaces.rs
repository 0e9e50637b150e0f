//! Namespaces of a container that stay when it has ended, bound to files that others can join (`bindNS`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::process::Pid;
use serde::Deserialize;

use super::Error;
use super::mounts::make_directory;

/// The one whose file the kernel lets lie in no other mount namespace.
const MOUNTS: &str = "mnt";
/// As `/proc/PID/ns` has them.
const KINDS: [&str; 7] = ["cgroup", "ipc", MOUNTS, "net", "pid", "user", "uts"];

/// For each kind of namespace the file to bind it to.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Namespaces(BTreeMap<String, Option<String>>);

impl Namespaces {
    /// The kind that there is not, if one is asked for.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.0.keys().map(String::as_str).find(|kind| !KINDS.contains(kind))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files().next().is_none()
    }

    fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        let asked = self.0.iter().filter_map(|(kind, file)| Some((kind.as_str(), file.as_deref()?)));
        asked.filter(|(_, file)| !file.is_empty()).map(|(kind, file)| (kind, Path::new(file)))
    }

    /// Lets go of those of an earlier run: what they keep alive has the names that this run wants.
    pub(super) fn release(&self) {
        for (_, file) in self.files() {
            // Mostly there is none. A directory is none of ours.
            while file.is_file() && unmount(file, UnmountFlags::DETACH).is_ok() {}
        }
    }

    /// Binds those of a process.
    pub(super) fn bind(&self, of: Pid) -> Result<(), Error> {
        self.files().try_for_each(|(kind, file)| {
            make_file(file)?;
            bind(of, kind, file).map_err(|source| Error::Namespace {
                kind: kind.to_owned(),
                on: file.to_owned(),
                source,
            })
        })
    }
}

fn make_file(file: &Path) -> Result<(), Error> {
    if let Some(directory) = file.parent() {
        make_directory(directory)?;
    }
    // Not truncated: where it is a file of the root image, that is read-only.
    if file.exists() {
        return Ok(());
    }
    File::create(file).map(drop).map_err(|source| Error::Make { path: file.to_owned(), source })
}

fn bind(of: Pid, kind: &str, file: &Path) -> io::Result<()> {
    let namespace = format!("/proc/{}/ns/{kind}", of.as_raw_nonzero());
    if kind == MOUNTS {
        // Where it lies may be shared with containers, into whose mount namespaces it cannot spread.
        mount_bind(file, file)?;
        mount_change(file, MountPropagationFlags::PRIVATE)?;
    }
    Ok(mount_bind(namespace.as_str(), file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(json: &str) -> Namespaces {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_what_has_a_path_is_bound_and_only_what_there_is() {
        let some = namespaces(r#"{"net":"/run/netns/a","uts":"","ipc":null}"#);
        assert_eq!(some.files().collect::<Vec<_>>(), [("net", Path::new("/run/netns/a"))]);
        assert_eq!(some.unknown(), None);
        assert!(namespaces(r#"{"uts":""}"#).is_empty());
        assert_eq!(namespaces(r#"{"time":"/run/t"}"#).unknown(), Some("time"));
    }

    #[test]
    fn what_cannot_be_bound_is_said_with_its_kind_and_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/net");
        let some = namespaces(&format!(r#"{{"net":"{}"}}"#, file.display()));
        // No process has the largest number that there could be.
        let error = some.bind(Pid::from_raw(i32::MAX).unwrap()).unwrap_err().to_string();
        assert!(file.is_file());
        assert!(error.starts_with("cannot keep the net namespace at "), "{error}");
    }
}
