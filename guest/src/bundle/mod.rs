//! The containers of the root image: OCI bundles with LinuxKit's `runtime.json` beside `config.json`.

mod mounts;
mod namespaces;
mod options;
pub(crate) mod path;
mod runc;
mod runtime;
mod spec;
pub(crate) mod volumes;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

pub(crate) use runc::{Runc, RuncError, Running};
pub(crate) use runtime::RuntimeConfig;
pub(crate) use spec::Spec;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what this init understands: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{} asks for {what}, which this init does not do", path.display())]
    Unsupported { path: PathBuf, what: String },
    #[error("{} has no list of words in process.args", path.display())]
    NoArgs { path: PathBuf },
    #[error("cannot mount {source_name} on {} as {bundle} wants: {source}", on.display())]
    Mount { bundle: String, source_name: String, on: PathBuf, source: io::Error },
    #[error("cannot keep the {kind} namespace at {}: {source}", on.display())]
    Namespace { kind: String, on: PathBuf, source: io::Error },
    #[error("{bundle} cannot have its interfaces: {source}")]
    Interface { bundle: String, source: crate::net::Error },
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
}

/// One container: where its files lie, and what it is to do.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// The directory's name: `020-binfmt` or `moby`.
    pub(crate) name: String,
    pub(crate) rootfs: PathBuf,
    pub(crate) spec: Spec,
    runtime: RuntimeConfig,
}

impl Bundle {
    /// Reads a bundle's two files.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spec = Spec::read(&directory.join("config.json"))?;
        let runtime = RuntimeConfig::read(&directory.join("runtime.json"))?;
        let rootfs = directory.join(spec.root_path());
        Ok(Self { name, rootfs, spec, runtime })
    }

    /// Makes the directories, mounts and cgroups that have to be there before the container starts.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        self.runtime.apply(&self.name, &self.rootfs)
    }

    /// Whether there is something to do between making the container and starting it.
    fn has_to_be_equipped(&self) -> bool {
        self.runtime.equips()
    }

    /// Gives a container that was made, as this process, what it is to have before it starts.
    async fn equip(&self, process: Pid, patience: Duration) -> Result<(), Error> {
        self.runtime.equip(&self.name, process, patience).await
    }
}

/// The bundles below a directory, in name order. A root image without the directory has none.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}
