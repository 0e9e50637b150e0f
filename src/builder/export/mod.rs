//! The receiver's side of a build's results that go to this host: a directory (`tree`, fsutil's protocol) or a file (`file`).
//!
//! Nothing is seen at its place before the build has succeeded: what arrives is staged beside it, and moved there at the end.

mod file;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

pub(crate) use file::receive as receive_file;
pub(crate) use tree::receive as receive_tree;

use file::Written;
use tree::Tree;

/// How long a writer may need to stop: one that waits for a busy disk does not notice anything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory that gets the files of the result beside what it has.
    Directory(PathBuf),
    /// A file that gets the result as an archive.
    File(PathBuf),
    /// Standard output gets the archive.
    Stdout,
    /// An image layout, which the daemon writes to by itself.
    Layout(PathBuf),
}

/// Why a result did not get to its place.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("cannot write {path:?} of the build's output")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the build's output to standard output")]
    Stdout(#[source] io::Error),
    #[error(
        "the build's output has a file at {0:?}, where a directory is; move it away, or name another place"
    )]
    Directory(PathBuf),
    #[error(
        "the build's output has a device or a pipe at {0:?}, which goes to an archive only; write type=tar"
    )]
    Special(PathBuf),
    #[error("the builder sent {0:?} as a part of the output, which is no path below it")]
    Path(PathBuf),
    #[error("the build's output has more files than a directory takes from a builder; write type=tar")]
    TooMany,
    #[error("the builder sent contents that it was not asked for")]
    Unasked,
    #[error("the builder gave the output's transfer up: {0}")]
    Sender(String),
    #[error("the connection ended in the middle of the output's transfer")]
    Lost,
}

impl ExportError {
    fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

/// What has arrived and is not at its place yet; dropped, it is gone.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    arrived: Mutex<Vec<Arrived>>,
    /// What ended the first that could not be written: the builder, which is told of it, may only say that the stream ended.
    failed: Mutex<Option<ExportError>>,
    /// Held shared by those who write.
    writing: Arc<RwLock<()>>,
}

/// Somebody writes; dropped when they have ended.
pub(crate) type Writing = OwnedRwLockReadGuard<()>;

#[derive(Debug)]
pub(crate) enum Arrived {
    Tree(Tree),
    File(Written),
}

impl Staged {
    /// For a writer, until it ends. `None` while the build is given up.
    pub(crate) fn writing(&self) -> Option<Writing> {
        Arc::clone(&self.writing).try_read_owned().ok()
    }

    pub(crate) fn add(&self, arrived: Arrived) {
        self.arrived().push(arrived);
    }

    /// Something could not be written.
    pub(crate) fn fail(&self, error: ExportError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Why not, where that is known on this host alone.
    pub(crate) fn take_failure(&self) -> Option<ExportError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What the builder did it says itself.
        failed.filter(|error| !matches!(error, ExportError::Sender(_) | ExportError::Lost))
    }

    /// Keeps nothing, neither of what has come nor of what is on its way: those who write have lost their stream, and are waited
    /// for, as they take away themselves what they had staged.
    pub(crate) async fn give_up(&self) {
        let nobody_writes = tokio::time::timeout(PATIENCE, self.writing.write()).await;
        self.arrived().clear();
        drop(nobody_writes);
    }

    /// Moves everything to its place, or nothing where something is in the way.
    pub(crate) fn commit(&self) -> Result<(), ExportError> {
        let arrived = std::mem::take(&mut *self.arrived());
        for one in &arrived {
            if let Arrived::Tree(tree) = one {
                tree.check()?;
            }
        }
        arrived.into_iter().try_for_each(|one| match one {
            Arrived::Tree(tree) => tree.commit(),
            Arrived::File(file) => file.commit(),
        })
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<Arrived>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::export;

    #[tokio::test]
    async fn what_was_given_up_is_gone_and_nobody_writes_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Arc::new(Staged::default());
        let (sender, pieces) = tokio::sync::mpsc::channel(1);
        let destination = Destination::File(directory.path().join("out.tar"));
        let (writing, held_elsewhere) = (staged.writing().unwrap(), Arc::clone(&staged));
        let writer = tokio::task::spawn_blocking(move || {
            held_elsewhere.add(export::receive_file(&destination, pieces).unwrap().unwrap());
            drop(writing);
            held_elsewhere
        });
        sender.send(Ok("a".into())).await.unwrap();
        let mut giving_up = std::pin::pin!(staged.give_up());
        assert!(futures::poll!(&mut giving_up).is_pending(), "somebody writes");
        drop(sender);
        giving_up.await;
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(writer.await.unwrap());
    }
}
