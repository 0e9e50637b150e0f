//! A result that is one stream: an archive.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Arrived, Destination, ExportError};

/// A whole archive beside the place where it belongs.
#[derive(Debug)]
pub(crate) struct Written {
    temporary: NamedTempFile,
    place: PathBuf,
}

/// Writes what comes until it ends. `None` for what cannot be taken back.
pub(crate) fn receive(
    destination: &Destination,
    mut pieces: mpsc::Receiver<Result<Bytes, Status>>,
) -> Result<Option<Arrived>, ExportError> {
    let mut copy = |out: &mut dyn Write, failed: &dyn Fn(io::Error) -> ExportError| {
        while let Some(piece) = pieces.blocking_recv() {
            out.write_all(&piece.map_err(|_| ExportError::Lost)?).map_err(failed)?;
        }
        out.flush().map_err(failed)
    };
    match destination {
        Destination::Stdout => copy(&mut io::stdout().lock(), &ExportError::Stdout).map(|()| None),
        Destination::Directory(_) | Destination::Layout(_) => Err(ExportError::Unasked),
        Destination::File(place) => {
            let failed = |source| ExportError::Write { path: place.clone(), source };
            // What a link leads to is written, and not the link.
            let place = fs::canonicalize(place).unwrap_or_else(|_| place.clone());
            // A pipe or a device is there to be written to, not to be replaced.
            if fs::metadata(&place).is_ok_and(|found| !found.is_file()) {
                let mut device = File::options().write(true).open(&place).map_err(failed)?;
                return copy(&mut device, &failed).map(|()| None);
            }
            let mut temporary = beside(&place).map_err(failed)?;
            copy(temporary.as_file_mut(), &failed)?;
            Ok(Some(Arrived::File(Written { temporary, place })))
        }
    }
}

/// A new file with the permissions that any new file has here.
fn beside(place: &Path) -> io::Result<NamedTempFile> {
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mvm-output-").permissions(std::fs::Permissions::from_mode(0o666)).tempfile_in(directory)
}

impl Written {
    pub(super) fn commit(self) -> Result<(), ExportError> {
        let Self { temporary, place } = self;
        temporary.persist(&place).map_err(|error| ExportError::Write { path: place, source: error.error })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_all(place: &Path, pieces: Vec<Result<Bytes, Status>>) -> Result<Option<Arrived>, ExportError> {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.blocking_send(piece).unwrap();
        }
        drop(sender);
        receive(&Destination::File(place.to_owned()), receiver)
    }

    #[test]
    fn a_file_appears_whole_and_only_then() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("out.tar");
        std::fs::write(&place, "before").unwrap();
        let pieces = vec![Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))];
        let Some(Arrived::File(written)) = receive_all(&place, pieces).unwrap() else { panic!("no file") };
        assert_eq!(std::fs::read(&place).unwrap(), b"before");
        written.commit().unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"ab");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "before").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let Some(Arrived::File(written)) = receive_all(&link, vec![Ok(Bytes::from_static(b"a"))]).unwrap()
        else {
            panic!("no file");
        };
        written.commit().unwrap();
        assert!(link.is_symlink() && fs::read(&real).unwrap() == b"a");
        let null = receive_all(Path::new("/dev/null"), vec![Ok(Bytes::from_static(b"a"))]).unwrap();
        assert!(null.is_none(), "it is written already");
    }

    #[test]
    fn what_breaks_off_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("out.tar");
        let pieces = vec![Ok(Bytes::from_static(b"a")), Err(Status::unavailable("gone"))];
        assert!(matches!(receive_all(&place, pieces), Err(ExportError::Lost)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let nowhere = receive_all(&directory.path().join("no/out"), Vec::new()).unwrap_err().to_string();
        assert!(
            nowhere.starts_with("cannot write ") && nowhere.ends_with("no/out\" of the build's output"),
            "{nowhere}"
        );
    }
}
