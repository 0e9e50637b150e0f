//! One entry of `files`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::deb::root_path;

/// A file, a link or a directory that the definition puts into the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSpec {
    pub path: String,
    pub directory: bool,
    pub symlink: Option<String>,
    pub contents: Option<String>,
    /// A file of the host; `~/` is the home directory, another relative path is relative to the definition.
    pub source: Option<PathBuf>,
    /// Leave it out where `source` does not exist.
    pub optional: bool,
    /// Octal, in quotes; 0600 for files and 0700 for directories unless given.
    pub mode: Option<String>,
    pub uid: u32,
    pub gid: u32,
}

impl FileSpec {
    /// The mode's bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        let default = if self.directory { "0700" } else { "0600" };
        let text = self.mode.as_deref().unwrap_or(default);
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
    }

    pub(super) fn problem(&self) -> Option<String> {
        let kinds = [self.directory, self.symlink.is_some(), self.contents.is_some(), self.source.is_some()];
        if kinds.into_iter().filter(|given| *given).count() != 1 {
            return Some("give one of contents, source, symlink or directory".to_owned());
        }
        if root_path(Path::new(&self.path)).is_none_or(|path| path.is_empty()) {
            return Some("the path leads out of the root".to_owned());
        }
        let mode = self.mode.as_deref().unwrap_or_default();
        self.mode_bits().is_none().then(|| format!("mode {mode:?} is not octal"))
    }
}
