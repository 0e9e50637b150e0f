//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Writes a file beside its place and renames it there, so that no reader ever sees half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// Copies a file the same way.
pub(crate) fn copy_atomically(source: &Path, path: &Path) -> io::Result<()> {
    let mut file = beside(path)?;
    io::copy(&mut File::open(source)?, file.as_file_mut())?;
    persist(file, path)
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

fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    NamedTempFile::new_in(parent)
}

fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_key_have_borders() {
        assert_ne!(
            Key::default().with("ab").with("c").finish(),
            Key::default().with("a").with("bc").finish()
        );
    }
}
