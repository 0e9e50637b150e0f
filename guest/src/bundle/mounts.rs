//! The mounts of `runtime.json`, done on the guest's own tree.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount};
use serde::Deserialize;

use super::Error;
use super::options::Options;

/// A mount as the OCI runtime specification has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) options: Vec<String>,
}

impl Mount {
    /// The same, with a relative destination below a directory.
    pub(super) fn below(&self, directory: &Path) -> Self {
        Self { destination: directory.join(&self.destination).to_string_lossy().into_owned(), ..self.clone() }
    }

    pub(super) fn apply(&self, bundle: &str) -> Result<(), Error> {
        let options = Options::parse(self.options.iter().map(String::as_str));
        for directory in [&options.upperdir, &options.workdir].into_iter().flatten() {
            make_directory(Path::new(directory))?;
        }
        // An image's own directories are there already, on a file system that cannot be written to.
        if !Path::new(&self.destination).exists() {
            make_directory(Path::new(&self.destination))?;
        }
        self.mount(&options).map_err(|source| Error::Mount {
            bundle: bundle.to_owned(),
            source_name: if self.source.is_empty() { self.kind.clone() } else { self.source.clone() },
            on: self.destination.clone().into(),
            source,
        })
    }

    fn mount(&self, options: &Options) -> io::Result<()> {
        let (source, destination) = (self.source.as_str(), self.destination.as_str());
        if options.remount {
            mount_remount(destination, options.flags.0, options.data.as_str())?;
        } else if options.bind || self.kind == "bind" {
            match options.recursive {
                true => mount_bind_recursive(source, destination)?,
                false => mount_bind(source, destination)?,
            }
            // The kernel ignores the flags of a bind until it is mounted anew.
            if options.flags.0 != MountFlags::empty() {
                mount_remount(destination, MountFlags::BIND | options.flags.0, "")?;
            }
        } else {
            let data = CString::new(options.data.as_str())?;
            mount(source, destination, self.kind.as_str(), options.flags.0, Some(data.as_c_str()))?;
        }
        options.propagation.map_or(Ok(()), |propagation| Ok(mount_change(destination, propagation)?))
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Make { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_destination_is_below_the_root_of_the_container() {
        let below = |destination: &str| {
            let mount = Mount { destination: destination.to_owned(), ..Mount::default() };
            mount.below(Path::new("/c/rootfs")).destination
        };
        assert_eq!(below("/run/x"), "/run/x");
        assert_eq!(below("run/x"), "/c/rootfs/run/x");
    }
}
