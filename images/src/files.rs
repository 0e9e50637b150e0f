//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::scratch::Scratch;

/// Writes a file beside its place and renames it there, so that no reader ever sees half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_atomically(path, |file| file.write_all(bytes))
}

/// Copies a file the same way.
pub(crate) fn copy_atomically(source: &Path, path: &Path) -> io::Result<()> {
    make_atomically(path, |file| io::copy(&mut File::open(source)?, file).map(drop))
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// A key made of several things; each goes in behind its length, so that their borders count.
#[derive(Debug, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    pub(crate) fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }

    /// Short enough for a directory's name: 128 bits.
    pub(crate) fn short(self) -> String {
        let mut text = self.finish();
        text.truncate(32);
        text
    }
}

/// Makes a file the same way.
pub(crate) fn make_atomically(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = Scratch::below(parent)?;
    let making = scratch.path().join("file");
    let mut file = File::create_new(&making)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fill(&mut file)?;
    fs::rename(&making, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_was_writing_is_gone_after_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        let killed = make_atomically(&path, |_| {
            // What lies there in the middle of it, put where no living process holds it.
            let making = fs::read_dir(dir.path())?.next().unwrap()?.file_name().into_string().unwrap();
            let left = dir.path().join(format!("{making}left"));
            fs::create_dir(&left)?;
            fs::write(left.join("file"), "half")
        });
        killed.unwrap();
        write_atomically(&path, b"whole").unwrap();
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["index.json"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        write_atomically(&path, b"old").unwrap();
        copy_atomically(Path::new("/nonexistent"), &path).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_parts_of_a_key_have_borders() {
        assert_ne!(
            Key::default().with("ab").with("c").finish(),
            Key::default().with("a").with("bc").finish()
        );
    }
}
