//! Who runs an instance: whoever holds its locks, and nobody else, whatever files lie around.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::Paths;

/// The locks of an instance, held as long as this lives.
///
/// Two: of the instance's directory, which guards the data disk, and of its runtime directory, which guards the sockets
/// (two state directories may share one runtime directory). The kernel frees them when the process ends, however it does.
#[derive(Debug)]
pub struct Lock {
    state: File,
    runtime: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, since a process that is just being started has copies of both files until its exec.
        let _ = self.runtime.unlock();
        let _ = self.state.unlock();
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the instance is in use: another supervisor holds {}; `mvm status` shows it, `mvm down` ends it", .0.display())]
    Held(PathBuf),
    #[error("cannot lock {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Lock {
    /// Both locks or none, without waiting. The directories exist.
    pub fn take(paths: &Paths) -> Result<Self, Error> {
        let state = open(&paths.lock())?;
        exclusive(&state, &paths.lock())?;
        let runtime = File::open(paths.runtime())
            .map_err(|source| Error::Io { path: paths.runtime().into(), source })?;
        exclusive(&runtime, paths.runtime())?;
        Ok(Self { state, runtime })
    }

    /// Whether nobody holds the instance now. False where that cannot be found out.
    pub fn is_free(paths: &Paths) -> bool {
        match File::open(paths.lock()) {
            Ok(file) => {
                let is_free = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
                // Said, as when a holder ends: whoever takes it next does not find this one's.
                let _ = file.unlock();
                is_free
            }
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Waits until nobody holds the instance, at most for `patience`; returns whether that came.
    pub async fn becomes_free(paths: &Paths, patience: Duration) -> bool {
        const LOOK: Duration = Duration::from_millis(20);
        let freed = async {
            while !Self::is_free(paths) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(patience, freed).await.is_ok()
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|source| Error::Io { path: path.into(), source })
}

fn exclusive(file: &File, path: &Path) -> Result<(), Error> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        if errno == rustix::io::Errno::WOULDBLOCK {
            Error::Held(path.into())
        } else {
            Error::Io { path: path.into(), source: errno.into() }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Error, Lock};
    use crate::instance::tests::scratch;

    #[test]
    fn second_holder_is_refused_until_the_first_is_gone() {
        let (_directory, paths) = scratch();
        assert!(Lock::is_free(&paths));
        let first = Lock::take(&paths).unwrap();
        assert!(!Lock::is_free(&paths));
        let error = Lock::take(&paths).unwrap_err();
        assert!(matches!(error, Error::Held(_)));
        assert!(error.to_string().starts_with("the instance is in use: another supervisor holds"), "{error}");
        let _copies = [first.state.try_clone().unwrap(), first.runtime.try_clone().unwrap()];
        drop(first);
        Lock::take(&paths).unwrap();
    }

    #[tokio::test]
    async fn end_of_the_holder_is_waited_for() {
        let (_directory, paths) = scratch();
        let held = Lock::take(&paths).unwrap();
        assert!(!Lock::becomes_free(&paths, Duration::from_millis(50)).await);
        let waiting = tokio::spawn(async move { Lock::becomes_free(&paths, Duration::from_secs(120)).await });
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn file_left_behind_is_no_lock() {
        let (_directory, paths) = scratch();
        std::fs::write(paths.lock(), "4711").unwrap();
        Lock::take(&paths).unwrap();
    }
}
