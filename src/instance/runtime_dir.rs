//! The directory of the sockets: nobody else may enter it, or put something else in its place.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make {} for the sockets: {source}; set XDG_RUNTIME_DIR to a directory that you may write to", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("{} does not belong to you alone ({why}); remove it, or set XDG_RUNTIME_DIR to a directory of your own", path.display())]
    NotOurs { path: PathBuf, why: String },
}

/// Makes the directory and its parent, each with mode 0700, or checks what is there.
pub fn prepare(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        own(parent)?;
    }
    own(path)
}

/// Refuses a directory that somebody else may have put there, with sockets in it; one that is not there is no danger.
pub fn check(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => is_ours(path, &found),
        Err(_) => Ok(()),
    }
}

fn own(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Make { path: path.into(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error).map_err(failed)?;
            DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(failed)?;
            DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    is_ours(path, &std::fs::symlink_metadata(path).map_err(failed)?)
}

fn is_ours(path: &Path, found: &Metadata) -> Result<(), Error> {
    let us = rustix::process::geteuid().as_raw();
    let why = if !found.is_dir() {
        "it is no directory".to_owned()
    } else if found.uid() != us {
        format!("its owner is user {}, and you are {us}", found.uid())
    } else if found.mode() & 0o077 != 0 {
        format!("its mode is {:04o}, and should be 0700", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(Error::NotOurs { path: path.into(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{check, prepare};

    #[test]
    fn makes_it_private_with_its_parents() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b/c");
        check(&path).unwrap();
        prepare(&path).unwrap();
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn refuses_what_others_may_enter() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("x/y");
        prepare(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let error = prepare(&path).unwrap_err().to_string();
        assert_eq!(check(&path).unwrap_err().to_string(), error);
        assert!(
            error.contains("does not belong to you alone (its mode is 0755, and should be 0700)"),
            "{error}"
        );
    }

    #[test]
    fn refuses_a_link() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("real")).unwrap();
        let path = base.path().join("x");
        std::os::unix::fs::symlink(base.path().join("real"), &path).unwrap();
        let error = super::own(&path).unwrap_err().to_string();
        assert!(error.contains("(it is no directory)"), "{error}");
    }

    #[test]
    fn says_what_cannot_be_made() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("file"), "").unwrap();
        let error = prepare(&base.path().join("file/mvm/default")).unwrap_err().to_string();
        assert!(error.contains("cannot make") && error.contains("set XDG_RUNTIME_DIR"), "{error}");
    }
}
