//! The receiver's side of a build's results that go to this host: a directory (`tree`, fsutil's protocol) or a file (`file`).
//!
//! Nothing is seen at its place before the build has succeeded: what arrives is staged beside it, and moved there at the end.

mod file;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

pub(crate) use file::receive as receive_file;
pub(crate) use tree::receive as receive_tree;

use file::Written;
use tree::Tree;

/// How long a writer may need to stop.
const PATIENCE: Duration = Duration::from_secs(5);

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
pub(crate) struct Staged(Mutex<Vec<Arrived>>);

#[derive(Debug)]
pub(crate) enum Arrived {
    Tree(Tree),
    File(Written),
}

impl Staged {
    pub(crate) fn add(&self, arrived: Arrived) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
    }

    /// Waits until nobody writes any more, so that what they had staged is gone. Their stream has ended, which they notice at once.
    pub(crate) async fn settle(self: &Arc<Self>) {
        let writers_end = async {
            while Arc::strong_count(self) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, writers_end).await;
    }

    /// Moves everything to its place.
    pub(crate) fn commit(&self) -> Result<(), ExportError> {
        let arrived = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        arrived.into_iter().try_for_each(|one| match one {
            Arrived::Tree(tree) => tree.commit(),
            Arrived::File(file) => file.commit(),
        })
    }
}
