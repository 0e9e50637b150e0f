//! The tree as a SquashFS image.

use std::io::{self, BufWriter, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::Tree;
use super::tarball::{self, Records, TIME};
use crate::tools::Tool;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("sqfstar failed: {message}")]
    Failed { message: String },
    #[error("cannot write the archive that it is made of")]
    Archive(#[source] io::Error),
}

/// Writes the image of a tree to `image`: sqfstar reads it as an archive.
pub(crate) fn make(sqfstar: &Tool, tree: &Tree, image: &Path) -> Result<(), SquashfsError> {
    let (program, before) = sqfstar.command.split_first().map_or(("", &[][..]), |(p, b)| (p.as_str(), b));
    let start = |source| SquashfsError::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(before)
        .args(["-quiet", "-no-progress", "-comp", "zstd", "-mkfs-time", &TIME.to_string()])
        // What the archive says of the root itself it does not take.
        .args(["-root-time", &TIME.to_string(), "-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .arg(image)
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let (fed, message) = thread::scope(|scope| {
        let said = scope.spawn(|| {
            let mut text = String::new();
            // What it says may be cut short; how it ended tells whether it failed.
            let _ = stderr.map(|mut from| from.read_to_string(&mut text));
            text
        });
        let fed = stdin.map_or(Ok(()), |stdin| tarball::write(tree, Records::None, BufWriter::new(stdin)));
        (fed, said.join().unwrap_or_default())
    });
    let status = child.wait().map_err(start)?;
    // It ends early when it fails, and then cannot be written to: its own reason is the one that counts.
    if !status.success() {
        return Err(SquashfsError::Failed { message: message.trim().to_owned() });
    }
    fed.map_err(SquashfsError::Archive)
}
