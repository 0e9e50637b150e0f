//! `logs/SOURCE.log`: what each source of the guest printed, on the host, where it outlives the machine.
//!
//! A file that has grown to [`LARGEST`] becomes `SOURCE.log.1`, and the one before that is gone. The number of sources
//! is bounded too, since the guest names them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::agent::LogLine;

const LARGEST: u64 = 4 * 1024 * 1024;
const MOST_SOURCES: usize = 64;

/// The open log files of one instance.
#[derive(Debug)]
pub(super) struct LogFiles {
    directory: PathBuf,
    largest: u64,
    files: BTreeMap<String, (File, u64)>,
}

impl LogFiles {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), largest: LARGEST, files: BTreeMap::new() }
    }

    /// Appends one line. A line of a source whose name could not be a file's is left out.
    pub(super) fn append(&mut self, line: &LogLine) -> io::Result<()> {
        if !is_file_name(&line.source)
            || self.files.len() >= MOST_SOURCES && !self.files.contains_key(&line.source)
        {
            return Ok(());
        }
        let path = path_of(&self.directory, &line.source);
        let (mut file, mut size) = match self.files.remove(&line.source) {
            Some(open) => open,
            None => open(&path)?,
        };
        if size >= self.largest {
            std::fs::rename(&path, path.with_extension("log.1"))?;
            (file, size) = open(&path)?;
        }
        let text = [line.line.as_slice(), b"\n"].concat();
        file.write_all(&text)?;
        size = size.saturating_add(text.len() as u64);
        self.files.insert(line.source.clone(), (file, size));
        Ok(())
    }
}

/// The file of a source.
pub fn path_of(directory: &Path, source: &str) -> PathBuf {
    directory.join(format!("{source}.log"))
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// "init", "onboot.000-sysctl", "moby"; never the name of a log of our own, or one that leads elsewhere.
pub fn is_file_name(source: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !source.is_empty()
        && source.len() <= 100
        && source.chars().all(good)
        && !source.starts_with('.')
        && !["console", "supervisor"].contains(&source)
}

#[cfg(test)]
mod tests {
    use protocol::agent::LogLine;

    use super::{LogFiles, MOST_SOURCES, is_file_name};

    fn line(source: &str, text: &str) -> LogLine {
        LogLine { source: source.into(), unix_ms: 0, line: text.as_bytes().to_vec(), sequence: 0 }
    }

    #[test]
    fn each_source_has_a_file_and_a_full_one_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let mut logs = LogFiles { largest: 10, ..LogFiles::new(directory.path()) };
        for text in ["one", "two", "three", "four"] {
            logs.append(&line("moby", text)).unwrap();
        }
        logs.append(&line("init", "hello")).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("moby.log.1"), "one\ntwo\nthree\n");
        assert_eq!(read("moby.log"), "four\n");
        assert_eq!(read("init.log"), "hello\n");
    }

    #[test]
    fn guest_cannot_choose_the_place_or_the_number_of_files() {
        for bad in ["", "../x", "a/b", ".hidden", "supervisor", "console", "a\0"] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let mut logs = LogFiles::new(directory.path());
        for number in 0..MOST_SOURCES * 2 {
            logs.append(&line(&format!("s{number}"), "x")).unwrap();
        }
        logs.append(&line("../escaped", "x")).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MOST_SOURCES);
        assert!(!directory.path().parent().unwrap().join("escaped.log").exists());
    }
}
