//! The last words of a guest that failed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::printable::printable;

const LINES: usize = 15;
const BYTES: u64 = 16 * 1024;

/// The last lines of a log, without control characters: they are shown on a terminal. Empty when there is none.
pub(super) fn last_lines(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        file.take(BYTES).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}

/// What the last words mean where the kernel found that the root is not what its hashes say (dm-verity).
pub(super) fn damage(lines: &[String]) -> Option<&'static str> {
    lines.iter().any(|line| line.contains("device-mapper: verity: ") && line.contains(" is corrupted")).then_some(
        "its root image is damaged: the guest read a block that is not what was built, and stopped; `mvm image verify` says \
         which parts are, and what to do",
    )
}

#[cfg(test)]
mod tests {
    use super::{damage, last_lines};

    #[test]
    fn a_damaged_root_is_told_by_what_the_kernel_said_last() {
        let said = |text: &str| damage(&[text.to_owned(), "Kernel panic - not syncing".to_owned()]).is_some();
        assert!(said("[    0.5] device-mapper: verity: 254:0: data block 1 is corrupted"));
        assert!(said("[    0.5] device-mapper: verity: 254:0: metadata block 9 is corrupted"));
        assert!(!said("[    0.5] EXT4-fs: the superblock is corrupted"));
    }

    #[test]
    fn last_lines_without_what_would_steer_a_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        assert!(last_lines(&path).is_empty());
        let mut text: String = (0..5000).map(|number| format!("line {number}\r\n")).collect();
        text.push_str("\x1b[2Jpanic\n\n");
        std::fs::write(&path, text).unwrap();
        let lines = last_lines(&path);
        assert_eq!(lines.len(), 15);
        assert_eq!(lines.last().unwrap(), "panic");
        assert_eq!(lines[0], "line 4986");
    }
}
