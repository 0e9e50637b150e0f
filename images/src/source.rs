//! Where a definition comes from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::embedded;
use crate::spec::{Definition, Document, Places};
use crate::yaml::Problems;

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Invalid(#[from] Problems),
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
    /// What is kept with an appliance, which it was made of.
    Kept { appliance: String, definition: String, lock: String },
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

    /// The one part of what is not given in parts.
    fn own(&self) -> Option<Part> {
        match self {
            Self::Embedded => {
                Some(Part::Text { name: "linuxkit.yml".into(), text: embedded::DEFINITION.into() })
            }
            Self::Kept { appliance, definition, .. } => {
                Some(Part::Text { name: format!("the definition of {appliance}"), text: definition.clone() })
            }
            Self::Parts(_) => None,
        }
    }

    /// The definition that all of it makes.
    pub fn read(&self) -> Result<Definition, SourceError> {
        Ok(self.locate()?.0)
    }

    /// The same, and where its entries stand.
    pub(crate) fn locate(&self) -> Result<(Definition, Places), SourceError> {
        let (own, mut texts) = (self.own(), Vec::new());
        let parts = match self {
            Self::Parts(parts) => parts.as_slice(),
            Self::Embedded | Self::Kept { .. } => own.as_slice(),
        };
        for part in parts {
            texts.push(match part {
                Part::Text { name, text } => (name.clone(), text.clone(), None),
                Part::File(path) => {
                    let text = fs::read_to_string(path)
                        .map_err(|source| SourceError::Read { path: path.clone(), source })?;
                    (path.display().to_string(), text, Some(path.parent().unwrap_or(Path::new(""))))
                }
            });
        }
        let documents = texts.iter().map(|(file, text, directory)| Document {
            file,
            text,
            directory: directory.unwrap_or(Path::new("")),
            is_local: directory.is_some(),
        });
        let documents = documents.collect::<Vec<_>>();
        Ok(Definition::locate(&documents)?)
    }
}
