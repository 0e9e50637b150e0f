//! One entry of `files`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Id;

/// A file, a link or a directory that the definition puts into the root. One of `contents`, `source`, `metadata`, `symlink` and
/// `directory` says what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Where it lies in the root. Directories above it are made.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// Whether it is a directory.
    #[serde(default, skip_serializing_if = "is_false")]
    pub directory: bool,
    /// What the link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// A file of the host; `~/` is the home directory, another relative path is relative to the definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// This definition itself, merged: `yaml` or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Leave it out where `source` does not exist.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// Octal permissions; 0600 for files and 0700 for directories unless given.
    #[schemars(extend("format" = "mode"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whom it belongs to. Root unless given.
    #[serde(default, skip_serializing_if = "Id::is_root")]
    pub uid: Id,
    /// Which group it belongs to. Root's unless given.
    #[serde(default, skip_serializing_if = "Id::is_root")]
    pub gid: Id,
}

/// How a definition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    Yaml,
    Json,
}

// serde hands a reference over.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

impl FileSpec {
    /// With a relative source below this directory, unless it is in the home directory.
    pub(super) fn below(self, directory: &Path) -> Self {
        let source = self.source.map(|path| if path.starts_with("~") { path } else { directory.join(path) });
        Self { source, ..self }
    }

    /// The mode's bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        let default = if self.directory { "0700" } else { "0600" };
        let text = self.mode.as_deref().unwrap_or(default);
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
    }
}
