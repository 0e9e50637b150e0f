//! One at a time: whoever fetches, unpacks or builds holds a lock in the data directory and one in the cache, since
//! either may be shared by processes that do not share the other.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::held::Held;
use crate::request::Directories;

/// Why the directories could not be locked.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock {path}")]
pub struct ExclusiveError {
    path: PathBuf,
    source: io::Error,
}

/// Both locks. They belong to the open files, so a thread that takes them twice waits for itself.
#[derive(Debug)]
pub(crate) struct Exclusive {
    _data: Held,
    _cache: Held,
}

impl Exclusive {
    /// Waits for whoever holds them: for minutes while a kernel is compiled. All take them in the same order, and their
    /// names differ since the directories may be one.
    pub(crate) fn wait(directories: &Directories) -> Result<Self, ExclusiveError> {
        let data = lock(&directories.data.join("build.lock"))?;
        let cache = lock(&directories.cache.join("cache.lock"))?;
        Ok(Self { _data: data, _cache: cache })
    }
}

fn lock(path: &Path) -> Result<Held, ExclusiveError> {
    let locked = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Held::exclusive(File::create(path)?)
    };
    locked().map_err(|source| ExclusiveError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_directory_in_common_is_enough_to_wait() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
        let held = Exclusive::wait(&directories).unwrap();
        let others = ["d/build.lock", "c/cache.lock"].map(|name| File::open(dir.path().join(name)).unwrap());
        assert!(others.iter().all(|other| other.try_lock().is_err()));
        drop(held);
        assert!(others.iter().all(|other| other.try_lock().is_ok()));
    }

    #[test]
    fn the_directories_may_be_one() {
        let dir = tempfile::tempdir().unwrap();
        Exclusive::wait(&Directories { data: dir.path().into(), cache: dir.path().into() }).unwrap();
    }
}
