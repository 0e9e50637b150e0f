//! What a caller asks for: which definition, with which guest binary, into which directories.

use std::fs;
use std::path::{Path, PathBuf};

use crate::embedded;
use crate::error::Error;
use crate::progress::Progress;
use crate::spec::{Definition, Document};

/// Where a build keeps things. Deleting both leaves nothing behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// `$XDG_DATA_HOME/mvm`: `images/`, `tools/`, `locks/`.
    pub data: PathBuf,
    /// `$XDG_CACHE_HOME/mvm`: `packages/`, `kernels/`, `apt/`.
    pub cache: PathBuf,
}

impl Directories {
    /// The OCI layout that holds the appliances.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    pub(crate) fn tools(&self) -> PathBuf {
        self.data.join("tools")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.data.join("locks")
    }

    pub(crate) fn packages(&self) -> PathBuf {
        self.cache.join("packages")
    }

    pub(crate) fn kernels(&self) -> PathBuf {
        self.cache.join("kernels")
    }

    pub(crate) fn apt(&self) -> PathBuf {
        self.cache.join("apt")
    }
}

/// Where the definition of an appliance comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The `linuxkit.yml` and `linuxkit.lock` that this program was built with. A lock that was resolved anew on this
    /// machine takes the place of the embedded one.
    #[default]
    Embedded,
    /// Each adds to those before it. The lock is the file beside the last file with the extension `lock`; where there is
    /// none, the lock of the embedded definition holds.
    Parts(Vec<Part>),
}

/// A part of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    File(PathBuf),
    /// What was read elsewhere: from standard input, from the network.
    Text {
        name: String,
        text: String,
    },
}

impl From<PathBuf> for Source {
    fn from(file: PathBuf) -> Self {
        Self::Parts(vec![Part::File(file)])
    }
}

impl Source {
    /// The last file, which a lock belongs to.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let Self::Parts(parts) = self else { return None };
        parts.iter().rev().find_map(|part| match part {
            Part::File(path) => Some(path.as_path()),
            Part::Text { .. } => None,
        })
    }

    /// The definition that all of it makes.
    pub fn read(&self) -> Result<Definition, Error> {
        let Self::Parts(parts) = self else {
            return Ok(Definition::parse("linuxkit.yml", embedded::DEFINITION)?);
        };
        let mut texts = Vec::new();
        for part in parts {
            texts.push(match part {
                Part::Text { name, text } => (name.clone(), text.clone(), Path::new("")),
                Part::File(path) => {
                    let text = fs::read_to_string(path).map_err(|source| Error::Io {
                        action: "read",
                        path: path.clone(),
                        source,
                    })?;
                    (path.display().to_string(), text, path.parent().unwrap_or(Path::new("")))
                }
            });
        }
        let documents = texts.iter().map(|(file, text, directory)| Document { file, text, directory });
        let documents = documents.collect::<Vec<_>>();
        Ok(Definition::read(&documents)?)
    }
}

/// What to do about a locked package that its suite no longer has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pins {
    /// Fail, naming it.
    #[default]
    Exact,
    /// Resolve everything anew, write the lock, say what changed and go on.
    RelockIfGone,
}

/// One build.
pub struct Request<'a> {
    pub source: Source,
    /// The static guest binary: `/init` of the appliance.
    pub guest: &'a [u8],
    pub directories: &'a Directories,
    pub pins: Pins,
    /// The name under which the result is stored: [`crate::DEFAULT_REFERENCE`] unless the user says otherwise.
    pub reference: &'a str,
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("guest_bytes", &self.guest.len())
            .field("directories", self.directories)
            .field("pins", &self.pins)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}
