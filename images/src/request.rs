//! What a caller asks for: which definition, with which guest binary, into which directories.

use std::path::PathBuf;

use crate::progress::Progress;
use crate::source::Source;

/// Where a build keeps things. Deleting both leaves nothing behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// `$XDG_DATA_HOME/mvm`: `images/`, `tools/`, `locks/`.
    pub data: PathBuf,
    /// `$XDG_CACHE_HOME/mvm`: `packages/`, `kernels/`, `pieces/`, `apt/`.
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

    pub(crate) fn pieces(&self) -> PathBuf {
        self.cache.join("pieces")
    }

    pub(crate) fn apt(&self) -> PathBuf {
        self.cache.join("apt")
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

/// `/init` of the appliance.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The static binary.
    pub binary: &'a [u8],
    /// What it is linked with, a line for each crate: `NAME VERSION SHA256`.
    pub crates: &'a str,
}

/// One build.
pub struct Request<'a> {
    pub source: Source,
    pub guest: Guest<'a>,
    pub directories: &'a Directories,
    pub pins: Pins,
    /// Whether the root is held against its hashes as it is read.
    pub verified: bool,
    /// The name under which the result is stored: [`crate::DEFAULT_REFERENCE`] unless the user says otherwise.
    pub reference: &'a str,
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("guest_bytes", &self.guest.binary.len())
            .field("directories", self.directories)
            .field("pins", &self.pins)
            .field("verified", &self.verified)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}
