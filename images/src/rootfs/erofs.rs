//! The tree as an EROFS image.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Tree;
use super::tarball::{self, Records, TIME};
use crate::tools::Tool;

/// Fixed, like the times: an image is the same when its parts are.
const UUID: &str = "6d766d00-0000-4000-8000-000000000001";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("mkfs.erofs failed: {message}")]
    Failed { message: String },
}

/// Writes the image of a tree to `image`; `scratch` is a directory for the archive in between.
pub(crate) fn make(mkfs: &Tool, tree: &Tree, scratch: &Path, image: &Path) -> Result<(), ErofsError> {
    let archive = scratch.join("root.tar");
    let failed = |source| ErofsError::Write { path: archive.clone(), source };
    let file = std::fs::File::create(&archive).map_err(failed)?;
    tarball::write(tree, Records::None, BufWriter::new(file)).map_err(failed)?;
    let (program, before) = mkfs.command.split_first().map_or(("", &[][..]), |(p, b)| (p.as_str(), b));
    let output = Command::new(program)
        .args(before)
        // Higher levels, fragments and deduplication save a few per cent more and take a minute instead of seconds.
        .args(["--quiet", "--tar=f", "-zlz4hc,9", "-C65536", "-Eztailpacking"])
        .args(["-U", UUID, "-T", &TIME.to_string()])
        .arg(image)
        .arg(&archive)
        // It would take the place of all times.
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ErofsError::Start { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ErofsError::Failed { message })
}
