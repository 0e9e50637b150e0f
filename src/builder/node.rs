//! What tells this machine from others for good: part of the key under which a builder keeps a context.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::solve::random_id;

/// Beside the instances; no instance's name begins with a dot.
const FILE: &str = ".node";

/// The file that remembers it cannot be used.
#[derive(Debug, Error)]
#[error("cannot keep this machine's id in {path:?}")]
pub struct NodeError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The id kept in the directory `state`; made on first use.
pub fn node_id(state: &Path) -> Result<String, NodeError> {
    let path = state.join(FILE);
    read_or_make(state, &path).map_err(|source| NodeError { path, source })
}

fn read_or_make(state: &Path, path: &Path) -> io::Result<String> {
    if let Some(id) = read(path)? {
        return Ok(id);
    }
    std::fs::create_dir_all(state)?;
    let temporary = state.join(format!("{FILE}.{}", random_id()));
    let mut options = std::fs::OpenOptions::new();
    io::Write::write_all(
        &mut options.write(true).create_new(true).mode(0o600).open(&temporary)?,
        random_id().as_bytes(),
    )?;
    // Of two that make it at the same time, the first wins for both: a link does not replace what is there.
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(path)?.ok_or_else(|| io::Error::other("it is empty; delete it")),
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("not/yet/there");
        let id = node_id(&state).unwrap();
        assert_eq!(id.len(), 25);
        assert_eq!(node_id(&state).unwrap(), id);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn many_at_once_agree() {
        let directory = tempfile::tempdir().unwrap();
        let ids: Vec<String> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| node_id(directory.path()).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_directory_that_is_none_is_named() {
        let error = node_id(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(error, "cannot keep this machine's id in \"/dev/null/.node\"");
    }
}
