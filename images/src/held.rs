//! A lock on a file, for as long as its holder lives.

use std::fs::{File, TryLockError};
use std::io;

/// A lock, until this is dropped.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    pub(crate) fn exclusive(file: File) -> io::Result<Self> {
        file.lock().map(|()| Self(file))
    }

    pub(crate) fn shared(file: File) -> io::Result<Self> {
        file.lock_shared().map(|()| Self(file))
    }

    /// Without waiting; nothing where somebody else has it.
    pub(crate) fn now(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Said, since a process that is just being started has a copy of the file until its exec.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_though_a_process_that_is_being_started_has_a_copy_of_its_file() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(place.path()).unwrap();
        let copied = open();
        let _copy = copied.try_clone().unwrap();
        let held = Held::exclusive(copied).unwrap();
        assert!(Held::now(open()).unwrap().is_none());
        drop(held);
        let _shared = [Held::shared(open()).unwrap(), Held::shared(open()).unwrap()];
        assert!(Held::now(open()).unwrap().is_none());
    }
}
