//! `runtime.json`: LinuxKit's `Runtime` structure (src/moby/config.go), what has to be there before a container starts.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Deserializer};
use tokio::time::sleep;

use super::Error;
use super::mounts::{Mount, make_directory};
use super::namespaces::Namespaces;
use crate::net::Interface;

/// Between two tries to give an interface.
const PAUSE: Duration = Duration::from_millis(50);

/// As the image builder writes it: absent lists may be `null`, as Go has them. Its `namespace` is containerd's, which runs no
/// container here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeConfig {
    #[serde(deserialize_with = "null_is_empty")]
    cgroups: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    mounts: Vec<Mount>,
    #[serde(deserialize_with = "null_is_empty")]
    mkdir: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    interfaces: Vec<Interface>,
    #[serde(rename = "bindNS", deserialize_with = "null_is_empty")]
    bind_namespaces: Namespaces,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl RuntimeConfig {
    /// Reads the file; without one there is nothing to prepare.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|source| Error::Read { path: path.to_owned(), source })?,
        };
        let config: Self =
            serde_json::from_slice(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
        match config.bind_namespaces.unknown() {
            Some(kind) => Err(Error::Unsupported {
                path: path.to_owned(),
                what: format!("a namespace of the kind {kind} that stays (bindNS)"),
            }),
            None => Ok(config),
        }
    }

    /// A path that is relative is below the container's root.
    pub(super) fn apply(&self, bundle: &str, rootfs: &Path) -> Result<(), Error> {
        self.mounts.iter().try_for_each(|mount| mount.below(rootfs).apply(bundle))?;
        self.mkdir.iter().try_for_each(|path| make_directory(&rootfs.join(path)))?;
        let cgroups = Path::new("/sys/fs/cgroup");
        self.cgroups.iter().try_for_each(|group| make_directory(&cgroups.join(group.trim_start_matches('/'))))
    }

    pub(super) fn equips(&self) -> bool {
        !self.interfaces.is_empty() || !self.bind_namespaces.is_empty()
    }

    /// Between making a container and starting it. The interfaces of an earlier run have `patience` to go, or to come back.
    pub(super) async fn equip(&self, bundle: &str, process: Pid, patience: Duration) -> Result<(), Error> {
        self.bind_namespaces.release();
        let since = Instant::now();
        for interface in &self.interfaces {
            while let Err(source) = interface.give(process) {
                if !source.may_pass() || since.elapsed() >= patience {
                    return Err(Error::Interface { bundle: bundle.to_owned(), source });
                }
                sleep(PAUSE).await;
            }
        }
        self.bind_namespaces.bind(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RuntimeConfig, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runtime.json");
        std::fs::write(&path, text).unwrap();
        RuntimeConfig::read(&path)
    }

    #[test]
    fn what_linuxkit_writes_is_read() {
        let config = read(
            r#"{"cgroups":["/systemreserved"],"mounts":[{"destination":"/x","type":"tmpfs","source":"tmpfs",
                "options":["nodev"]}],"mkdir":["/var/lib/docker"],"interfaces":null,"bindNS":{}}"#,
        )
        .unwrap();
        assert_eq!(config.cgroups, ["/systemreserved"]);
        assert_eq!(config.mounts[0].destination, "/x");
        assert_eq!(config.mkdir, ["/var/lib/docker"]);
    }

    #[test]
    fn a_container_is_equipped_with_what_it_asks_for() {
        assert!(!read("{}").unwrap().equips());
        assert!(!read(r#"{"interfaces":[],"bindNS":{"net":""},"namespace":"k8s.io"}"#).unwrap().equips());
        assert!(read(r#"{"interfaces":[{"name":"wg0","createInRoot":false}]}"#).unwrap().equips());
        assert!(read(r#"{"bindNS":{"net":"/run/netns/x"}}"#).unwrap().equips());
    }

    #[test]
    fn what_this_init_does_not_know_is_refused_rather_than_left_out() {
        let error = read(r#"{"bindNS":{"time":"/run/x"}}"#).unwrap_err().to_string();
        let expected =
            "asks for a namespace of the kind time that stays (bindNS), which this init does not do";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn without_the_file_there_is_nothing_to_do() {
        assert!(RuntimeConfig::read(Path::new("/nonexistent/runtime.json")).unwrap().mounts.is_empty());
    }

    #[test]
    fn a_broken_file_is_named() {
        let error = read("{").unwrap_err().to_string();
        assert!(error.contains("runtime.json is not what this init understands"), "{error}");
    }
}
