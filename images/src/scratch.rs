//! Directories in which something is made. One that a killed or interrupted process left behind is removed by the next
//! that makes something in the same place: a kernel's is gigabytes large.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Says whose it is: beside a definition of the user's may lie other things that begin with a dot.
const PREFIX: &str = ".mvm-making-";

/// A directory that is removed at the end. As long as its process lives, it holds the directory's lock.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    _held: File,
}

impl Scratch {
    /// Makes one below `place`, after removing those whose makers are gone.
    pub(crate) fn below(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        sweep(place)?;
        loop {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
            // Another process may sweep before the lock is held; then there is nothing any more, and another try.
            let held = match File::open(directory.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                held => held?,
            };
            if held.try_lock().is_ok() && directory.path().exists() {
                return Ok(Self { directory, _held: held });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn sweep(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // What another process removes at the same time is gone as well.
        let Ok(held) = File::open(entry.path()) else { continue };
        if held.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PREFIX, Scratch};

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_live_one_uses_is_not() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(format!("{PREFIX}left"));
        std::fs::create_dir_all(left.join("deep")).unwrap();
        let other = place.path().join("vmlinux");
        std::fs::write(&other, "").unwrap();

        let one = Scratch::below(place.path()).unwrap();
        assert!(!left.exists());
        let two = Scratch::below(place.path()).unwrap();
        assert!(one.path().exists() && two.path().exists() && other.exists());

        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
    }
}
