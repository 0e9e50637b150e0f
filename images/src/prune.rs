//! What nothing leads to any more is removed: contents of images without a name, downloads that were broken off, and, where
//! that is asked for, what the cache has beside what the lock names.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::ImageIndex;
use serde::Serialize;

use crate::error::Error;
use crate::exclusive::{Exclusive, ExclusiveError};
use crate::held::Held;
use crate::kernel::{self, KernelError};
use crate::layout::{self, Layout, LayoutError};
use crate::lock::Lock;
use crate::locking::{self, LockingError};
use crate::origin;
use crate::packages::Packages;
use crate::progress::Silent;
use crate::request::Directories;
use crate::signature;
use crate::source::Source;
use crate::tools::{self, ToolError};

/// Why nothing more was removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("an image is being pulled; prune again when that is done")]
    Pulling,
    #[error(transparent)]
    Locking(#[from] LockingError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot tell which unpacked images are wanted")]
    Pieces(#[source] Box<Error>),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// What is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// Packages, kernels and unpacked images, too, that the lock which holds for mvm's own appliance does not name.
    pub cache: bool,
    /// And unpacked tools, which a machine that runs may start.
    pub tools: bool,
    /// Nothing is removed.
    pub dry_run: bool,
}

/// Something that is gone, or would be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pruned {
    pub kind: Kind,
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Content,
    Download,
    Package,
    Kernel,
    Piece,
    Tool,
}

/// Removes it, and says what it was. Waits for builds; what a machine that runs has locked stays.
pub fn prune(directories: &Directories, scope: Scope) -> Result<Vec<Pruned>, PruneError> {
    let _alone = Exclusive::wait(directories)?;
    let layout = Layout::open(&directories.images())?;
    let _no_pulls = layout.without_pulls()?.ok_or(PruneError::Pulling)?;
    let mut found = Vec::new();
    let mut collect = |kind, dir: &Path, is_kept: &dyn Fn(&str) -> bool| -> Result<(), PruneError> {
        for path in entries(dir)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with('.') && !is_kept(name) && !is_locked(&path)? {
                found.push(Pruned { kind, size: size(&path), path });
            }
        }
        Ok(())
    };
    let index = layout.index()?;
    let (wanted, orphans) = wanted(&layout, &index)?;
    collect(Kind::Content, &layout.contents(), &|name| wanted.contains(name))?;
    collect(Kind::Download, &layout.incoming(), &|_| false)?;
    let lock = locking::effective(&Source::Embedded, directories)?;
    let packages = Packages { directories, lock: &lock, progress: &Silent };
    if scope.cache {
        let named = packages_of(&lock);
        collect(Kind::Package, &directories.packages(), &|name| named.contains(name))?;
        let kernels = kernel::all_keys(&packages)?;
        let pieces = pieces(&packages).map_err(|error| PruneError::Pieces(Box::new(error)))?;
        collect(Kind::Kernel, &directories.kernels(), &|name| kernels.contains(name))?;
        collect(Kind::Piece, &directories.pieces(), &|name| pieces.contains(name))?;
    }
    if scope.tools {
        let tools = tools::all_names(&packages)?;
        collect(Kind::Tool, &directories.tools(), &|name| tools.contains(name))?;
    }
    found.sort();
    if !scope.dry_run {
        orphans.iter().try_for_each(|name| layout.untag(name).map(drop))?;
        found.iter().try_for_each(remove)?;
    }
    Ok(found)
}

/// The contents that a name leads to, and the names of signatures of what has none any more.
fn wanted<'a>(
    layout: &Layout,
    index: &'a ImageIndex,
) -> Result<(BTreeSet<String>, Vec<&'a str>), PruneError> {
    let is_of = |name: &str| index.manifests().iter().any(|each| signature::name_of(each.digest()) == name);
    let (mut wanted, mut orphans) = (BTreeSet::new(), Vec::new());
    for named in index.manifests() {
        match layout::name_of(named).filter(|name| signature::is_of_signatures(named) && !is_of(name)) {
            Some(orphan) => orphans.push(orphan),
            None => wanted
                .extend(layout.reachable(named)?.into_values().map(|each| each.digest().digest().to_owned())),
        }
    }
    Ok((wanted, orphans))
}

/// The files of mvm's own appliance's.
fn pieces(packages: &Packages<'_>) -> Result<BTreeSet<String>, Error> {
    origin::pieces(&Source::Embedded.read()?, packages)
}

fn packages_of(lock: &Lock) -> BTreeSet<String> {
    lock.hashes().map(|hash| format!("{hash}.deb")).collect()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PruneError> {
    let listed = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    listed.map_err(|source| io_error("list", dir, source))
}

/// Whether somebody holds it: a machine its kernel and its root.
fn is_locked(path: &Path) -> Result<bool, PruneError> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let held = Held::now(file).map_err(|source| io_error("lock", path, source))?;
    Ok(held.is_none())
}

/// What goes with it. That something cannot be measured is no reason not to remove it.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.fold(0, |sum: u64, entry| sum.saturating_add(size(&entry.path())))
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

fn remove(pruned: &Pruned) -> Result<(), PruneError> {
    let path = &pruned.path;
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| io_error("remove", path, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> PruneError {
    PruneError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(dir: &tempfile::TempDir) -> Directories {
        Directories { data: dir.path().join("d"), cache: dir.path().join("c") }
    }

    fn pruned(directories: &Directories, scope: Scope) -> Vec<(Kind, String)> {
        let name = |each: Pruned| (each.kind, each.path.file_name().unwrap().to_str().unwrap().to_owned());
        prune(directories, scope).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn what_no_name_leads_to_goes_unless_a_machine_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let directories = directories(&dir);
        let layout = Layout::open(&directories.images()).unwrap();
        let [named, nameless, booted] =
            ["named", "nameless", "booted"].map(|text| layout.add_bytes("a/b", text.as_bytes()).unwrap());
        layout.tag("a:1", named.clone()).unwrap();
        let machine = File::open(layout.blob(booted.digest())).unwrap();
        machine.lock_shared().unwrap();
        let download = layout.incoming().join("0a");
        fs::create_dir_all(layout.incoming()).unwrap();
        fs::write(&download, b"part").unwrap();

        let all = [(Kind::Content, nameless.digest().digest().to_owned()), (Kind::Download, "0a".into())];
        assert_eq!(pruned(&directories, Scope { dry_run: true, ..Scope::default() }), all);
        assert!(layout.has(&nameless) && download.exists());
        assert_eq!(pruned(&directories, Scope::default()), all);
        assert!(layout.has(&named) && layout.has(&booted) && !layout.has(&nameless) && !download.exists());
        machine.unlock().unwrap();
        let last = [(Kind::Content, booted.digest().digest().to_owned())];
        assert_eq!(pruned(&directories, Scope::default()), last);
    }

    #[test]
    fn a_pull_is_not_pulled_away_from_under() {
        let dir = tempfile::tempdir().unwrap();
        let directories = directories(&dir);
        let pull = Layout::open(&directories.images()).unwrap().pulling().unwrap();
        let error = prune(&directories, Scope::default()).unwrap_err().to_string();
        assert_eq!(error, "an image is being pulled; prune again when that is done");
        drop(pull);
        prune(&directories, Scope::default()).unwrap();
    }

    #[test]
    fn of_the_cache_what_the_lock_names_stays() {
        let dir = tempfile::tempdir().unwrap();
        let directories = directories(&dir);
        let lock = locking::effective(&Source::Embedded, &directories).unwrap();
        let packages = Packages { directories: &directories, lock: &lock, progress: &Silent };
        let (kept, gone) = (packages_of(&lock).pop_first().unwrap(), format!("{}.deb", "0".repeat(64)));
        let kernel = kernel::all_keys(&packages).unwrap().pop_first().unwrap();
        let tool = tools::all_names(&packages).unwrap().pop_first().unwrap();
        let piece = pieces(&packages).unwrap().pop_first().unwrap();
        for name in [&piece, "init-old"] {
            fs::create_dir_all(directories.pieces()).unwrap();
            fs::write(directories.pieces().join(name), b"x").unwrap();
        }
        for file in [directories.packages().join(&kept), directories.packages().join(&gone)] {
            fs::create_dir_all(directories.packages()).unwrap();
            fs::write(file, b"x").unwrap();
        }
        for name in [&kernel, "old"] {
            fs::create_dir_all(directories.kernels().join(name)).unwrap();
        }
        for name in [&tool, "qemu-old"] {
            fs::create_dir_all(directories.tools().join(name)).unwrap();
        }
        assert_eq!(pruned(&directories, Scope::default()), []);
        let cache = Scope { cache: true, ..Scope::default() };
        let old =
            [(Kind::Kernel, "old"), (Kind::Piece, "init-old")].map(|(kind, name)| (kind, name.to_owned()));
        assert_eq!(pruned(&directories, cache), [&[(Kind::Package, gone)][..], &old].concat());
        assert!(directories.pieces().join(piece).exists());
        let tools = Scope { tools: true, ..Scope::default() };
        assert_eq!(pruned(&directories, tools), [(Kind::Tool, "qemu-old".into())]);
        assert!(directories.kernels().join(kernel).exists() && directories.tools().join(tool).exists());
    }
}
