//! Small files that are always whole.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// Writes a file beside `path` and moves it there, so that a reader sees the old text or the new one. On a full disk the
/// old file's blocks are used again: a reader may then see part of the text, which is better than the old one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    let Err(error) = written else { return Ok(()) };
    // What there is of it only takes up room.
    let _ = std::fs::remove_file(&beside);
    match error.kind() {
        io::ErrorKind::StorageFull => overwrite(path, content),
        _ => Err(error),
    }
}

fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::{overwrite, replace};

    #[test]
    fn new_text_takes_the_place_of_a_longer_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        for write in [replace, overwrite] {
            std::fs::write(&path, "something longer").unwrap();
            write(&path, b"short").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
