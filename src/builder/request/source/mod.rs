//! What a build is made from: a context, a Dockerfile, and further contexts with names.

mod archive;
mod find;
mod named;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::{NamedTempFile, TempDir};
use thiserror::Error;

pub use named::NamedContext;
pub(in crate::builder) use named::Place;

use crate::builder::session::Upload;

/// Where a build's files are.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) context: Context,
    pub(super) dockerfile: Dockerfile,
    pub(super) named: Vec<NamedContext>,
}

/// What the Dockerfile copies from.
#[derive(Debug, Clone)]
pub(super) enum Context {
    /// A directory of this host, absolute.
    Directory(PathBuf),
    /// Nothing: a Dockerfile alone has come through standard input. This is an empty directory.
    Nothing(Arc<TempDir>),
    /// A git repository or a file, which the builder fetches.
    Remote(String),
    Archive(Archive),
}

/// A context that is one stream.
#[derive(Debug, Clone)]
pub(in crate::builder) enum Archive {
    /// From standard input, of which this beginning has been read already.
    Stdin(Vec<u8>),
    /// The same in a file, which can be read more than once.
    Spooled(Arc<NamedTempFile>),
}

/// Which Dockerfile.
#[derive(Debug, Clone)]
pub(super) enum Dockerfile {
    /// A file of this host in a directory, absolute.
    File { directory: PathBuf, name: String },
    /// A text that has been read from elsewhere, kept in a directory of its own.
    Text(Arc<TempDir>),
    /// A path in the context, which is not on this host.
    InContext(String),
}

/// Which Dockerfile is asked for.
#[derive(Debug, Clone, Copy)]
pub enum DockerfileAt<'a> {
    /// `Dockerfile` in the context, or `dockerfile`, as the daemon would have it.
    Usual,
    /// A file, a path in an archive or a repository, or `-` for standard input.
    Path(&'a Path),
    /// One that is here already.
    Text(&'a [u8]),
}

/// No Dockerfile is longer.
pub const LONGEST_DOCKERFILE: usize = 2 << 20;

/// The only file in the directory of a text.
const DOCKERFILE: &str = "Dockerfile";

/// What the arguments name does not exist, or cannot be meant.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error(
        "the build context {0:?} is not a directory; name the directory that holds what the Dockerfile copies"
    )]
    NotADirectory(PathBuf),
    #[error("cannot open the build context {path:?}")]
    Context {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no Dockerfile at {0:?}; name one with -f")]
    NoDockerfile(PathBuf),
    #[error("cannot use {0:?} as a Dockerfile: it is not a file with a name in UTF-8")]
    NotAFile(PathBuf),
    #[error("cannot read the {what} from standard input")]
    Stdin {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("there is nothing on standard input, where the {0} should come from")]
    NothingOnStdin(&'static str),
    #[error("what comes through standard input is no archive, and too long for a Dockerfile")]
    LongDockerfile,
    #[error("standard input is one thing only: `-` is the context, and `-f -` the Dockerfile")]
    StdinTwice,
    #[error(
        "what comes through standard input is a Dockerfile, so there cannot be another one with -f; for an archive, -f names the one in it"
    )]
    DockerfileTwice,
    #[error("cannot keep the Dockerfile in a temporary directory")]
    Temporary(#[source] std::io::Error),
}

impl Source {
    /// The directories that the daemon may read, by the names that it knows them by.
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        let mut all = Vec::new();
        match &self.context {
            Context::Directory(path) => all.push(("context".to_owned(), path.clone())),
            Context::Nothing(empty) => all.push(("context".to_owned(), empty.path().to_owned())),
            Context::Remote(_) | Context::Archive(_) => {}
        }
        if let Some((directory, _)) = self.dockerfile.on_disk() {
            all.push(("dockerfile".to_owned(), directory.to_owned()));
        }
        let named = self.named.iter().filter_map(|named| match &named.place {
            Place::Directory(path) => Some((named.local_name(), path.clone())),
            Place::Remote(_) | Place::Layout { .. } => None,
        });
        all.extend(named);
        all
    }

    pub(in crate::builder) fn named(&self) -> &[NamedContext] {
        &self.named
    }

    pub(in crate::builder) fn archive(&self) -> Option<&Archive> {
        match &self.context {
            Context::Archive(archive) => Some(archive),
            _ => None,
        }
    }

    /// Reads standard input to its end, if that is the context, for all who need it.
    pub(super) fn spool(&mut self) -> io::Result<()> {
        let Context::Archive(Archive::Stdin(head)) = &self.context else { return Ok(()) };
        let mut file = NamedTempFile::new()?;
        io::copy(&mut head.as_slice().chain(io::stdin().lock()), &mut file)?;
        self.context = Context::Archive(Archive::Spooled(Arc::new(file)));
        Ok(())
    }

    /// What tells this context from others: the daemon keeps what it got of it, and next time asks for what changed.
    pub(in crate::builder) fn key(&self) -> &Path {
        match &self.context {
            Context::Directory(path) => path,
            Context::Remote(address) => Path::new(address),
            Context::Nothing(_) | Context::Archive(_) => Path::new("-"),
        }
    }

    /// The Dockerfile, if it is on this host.
    pub fn dockerfile_text(&self) -> Option<Vec<u8>> {
        let (directory, name) = self.dockerfile.on_disk()?;
        std::fs::read(directory.join(name)).ok()
    }

    /// Where the Dockerfile is, if it is a file of the user's.
    pub fn dockerfile_path(&self) -> Option<PathBuf> {
        match &self.dockerfile {
            Dockerfile::File { directory, name } => Some(directory.join(name)),
            Dockerfile::Text(_) | Dockerfile::InContext(_) => None,
        }
    }

    /// The addresses that the builder fetches contexts from.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let context = match &self.context {
            Context::Remote(address) => Some(address.as_str()),
            _ => None,
        };
        let named = self.named.iter().filter_map(|named| match &named.place {
            Place::Remote(address) => Some(address.as_str()),
            Place::Directory(_) | Place::Layout { .. } => None,
        });
        context.into_iter().chain(named)
    }

    /// Some context is a repository that is asked for through ssh.
    pub(in crate::builder) fn needs_ssh(&self) -> bool {
        self.addresses().any(find::is_ssh)
    }

    pub(super) fn attributes(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut set = |key: &str, value: &str| all.push((key.to_owned(), value.to_owned()));
        match &self.context {
            Context::Remote(address) => set("context", address),
            Context::Archive(_) => set("context", Upload::URL),
            Context::Directory(_) | Context::Nothing(_) => {}
        }
        match &self.dockerfile {
            Dockerfile::InContext(path) => set("filename", path),
            Dockerfile::File { name, .. } => set("filename", name),
            Dockerfile::Text(_) => set("filename", DOCKERFILE),
        }
        // Else it would be looked for in a context that is elsewhere.
        if self.dockerfile.on_disk().is_some()
            && matches!(self.context, Context::Remote(_) | Context::Archive(_))
        {
            set("dockerfilekey", "dockerfile");
        }
        for (number, named) in self.named.iter().enumerate() {
            set(&format!("context:{}", named.name), &named.address(number));
        }
        all
    }

    /// What the frontend has to be able to do for it.
    pub(super) fn capabilities(&self) -> Vec<&'static str> {
        let queried = matches!(&self.context, Context::Remote(address) if address.contains('?'));
        let needed = [
            (queried, "moby.buildkit.frontend.gitquerystring"),
            (!self.named.is_empty(), "moby.buildkit.frontend.contexts+forward"),
        ];
        needed.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, name)| name).collect()
    }
}

impl Dockerfile {
    fn on_disk(&self) -> Option<(&Path, &str)> {
        match self {
            Self::File { directory, name } => Some((directory, name)),
            Self::Text(directory) => Some((directory.path(), DOCKERFILE)),
            Self::InContext(_) => None,
        }
    }
}
