//! The data disk: a sparse file, of which the host stores what the guest has written.
//!
//! A disk counts as new until a machine with it was ready: whatever ended the boot that should have made its file system
//! (Ctrl-C, a power cut) left something half-made, and nothing that anybody may want.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Paths;

const GIB: u64 = 1024 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the data disk {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the data disk {} has {has} GiB and cannot shrink to {wanted}; `mvm rm` removes it with everything on it", path.display())]
    Shrink { path: PathBuf, has: u64, wanted: u32 },
    #[error("the data disk {} is locked by another process; end that (`fuser {}` shows it), then try again", .0.display(), .0.display())]
    Locked(PathBuf),
}

/// The disk of a machine that runs: nobody else gets it as long as this lives.
#[derive(Debug)]
pub struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Said, since a process that is just being started has a copy of the file until its exec.
        let _ = self.0.unlock();
    }
}

/// Makes the disk, or lets it grow. The caller holds the instance.
pub fn prepare(paths: &Paths, gib: u32) -> Result<Held, Error> {
    let path = paths.data_disk();
    let failed = |source| Error::Io { path: path.clone(), source };
    if paths.new_disk_mark().exists() {
        remove(&path).map_err(failed)?;
    }
    if !path.exists() {
        File::create(paths.new_disk_mark()).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    lock(&file, &path)?;
    let has = file.metadata().map_err(failed)?.len();
    let wanted = u64::from(gib).saturating_mul(GIB);
    check(&path, has, gib)?;
    if has < wanted {
        file.set_len(wanted).map_err(failed)?;
    }
    Ok(Held(file))
}

/// Whether the disk can have this size.
pub fn can_have(paths: &Paths, gib: u32) -> Result<(), Error> {
    match paths.data_disk().metadata() {
        Ok(found) => check(&paths.data_disk(), found.len(), gib),
        Err(_) => Ok(()),
    }
}

/// From now on the disk holds what somebody may want.
pub fn keep(paths: &Paths) -> io::Result<()> {
    remove(&paths.new_disk_mark())
}

fn check(path: &Path, has: u64, gib: u32) -> Result<(), Error> {
    if has > u64::from(gib).saturating_mul(GIB) {
        return Err(Error::Shrink { path: path.into(), has: has.div_ceil(GIB), wanted: gib });
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Against every other program that would write to it.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    vmm::platform::reserve(file).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied => Error::Locked(path.into()),
        _ => Error::Io { path: path.into(), source },
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{FlockOperation, flock};

    use super::{GIB, can_have, keep, prepare};
    use crate::instance::tests::scratch;

    #[test]
    fn sparse_and_only_grows() {
        let (_directory, paths) = scratch();
        let held = prepare(&paths, 2).unwrap();
        let _copy = held.0.try_clone().unwrap();
        drop(held);
        keep(&paths).unwrap();
        drop(prepare(&paths, 3).unwrap());
        let found = paths.data_disk().metadata().unwrap();
        assert_eq!(found.len(), 3 * GIB);
        assert!(found.blocks() < 16, "{} blocks", found.blocks());
        let error = prepare(&paths, 2).unwrap_err().to_string();
        assert!(error.contains("has 3 GiB and cannot shrink to 2; `mvm rm` removes it"), "{error}");
        assert_eq!(can_have(&paths, 2).unwrap_err().to_string(), error);
        can_have(&paths, 3).unwrap();
    }

    #[test]
    fn disk_of_a_machine_that_never_was_ready_is_made_anew() {
        let (_directory, paths) = scratch();
        drop(prepare(&paths, 1).unwrap());
        std::fs::write(paths.data_disk(), "half a file system").unwrap();
        drop(prepare(&paths, 1).unwrap());
        assert_eq!(paths.data_disk().metadata().unwrap().blocks(), 0);

        std::fs::write(paths.data_disk(), "a whole one").unwrap();
        keep(&paths).unwrap();
        drop(prepare(&paths, 1).unwrap());
        assert!(paths.data_disk().metadata().unwrap().blocks() > 0);
    }

    #[test]
    fn locked_disk_is_named_with_what_to_do() {
        let (_directory, paths) = scratch();
        drop(prepare(&paths, 1).unwrap());
        keep(&paths).unwrap();
        let other = File::open(paths.data_disk()).unwrap();
        flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
        let error = prepare(&paths, 1).unwrap_err().to_string();
        let disk = paths.data_disk().display().to_string();
        assert_eq!(
            error,
            format!(
                "the data disk {disk} is locked by another process; end that (`fuser {disk}` shows it), then try again"
            )
        );
        other.unlock().unwrap();
        drop(prepare(&paths, 1).unwrap());
    }
}
