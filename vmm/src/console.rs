//! The guest's console, as a file that stays small however much the guest prints.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A file that has grown so large becomes FILE.1, and the one before that is gone.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Writes down what the guest prints.
#[derive(Debug)]
pub(crate) struct Console {
    thread: JoinHandle<()>,
}

impl Console {
    /// Begins the file anew. What is written to the descriptor goes there, until all copies of it are closed.
    pub(crate) fn start(path: &Path) -> io::Result<(Self, OwnedFd)> {
        let (ours, engines) = UnixStream::pair()?;
        let log = BoundedFile::create(path, LARGEST)?;
        let thread = std::thread::Builder::new().name("console".to_owned()).spawn(move || copy(ours, log))?;
        Ok((Self { thread }, engines.into()))
    }

    /// Returns when the last words are written: once the engine has ended.
    pub(crate) fn finish(self) {
        let _ = self.thread.join();
    }
}

fn copy(mut from: UnixStream, mut log: BoundedFile) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // A guest goes on when the host cannot keep what it prints, as while its disk is full.
        if let Err(error) = log.append(buffer.get(..length).unwrap_or_default()) {
            tracing::debug!(%error, "the console's file cannot be written");
        }
    }
}

#[derive(Debug)]
struct BoundedFile {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
}

impl BoundedFile {
    fn create(path: &Path, largest: u64) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::create(path)?, size: 0, largest })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.largest {
            match std::fs::rename(&self.path, self.path.with_added_extension("1")) {
                // The file could be put aside before, but a new one could not be made.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            *self = Self::create(&self.path, self.largest)?;
        }
        self.file.write_all(bytes)?;
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BoundedFile, Console};

    #[test]
    fn what_is_printed_is_in_the_file_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        std::fs::write(&path, "of the boot before").unwrap();
        let (console, engines) = Console::start(&path).unwrap();
        rustix::io::write(&engines, b"hello\n").unwrap();
        drop(engines);
        console.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello\n");
    }

    #[test]
    fn a_guest_that_prints_without_end_fills_two_files_at_most() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut log = BoundedFile::create(&path, 100).unwrap();
        for _ in 0..1000 {
            log.append(&[b'x'; 30]).unwrap();
        }
        let sizes: Vec<u64> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2, "console.log and console.log.1");
        assert!(sizes.iter().all(|size| (1..=120).contains(size)), "{sizes:?}");
    }
}
