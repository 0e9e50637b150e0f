//! Where the guest's console goes: a file that stays small however much the guest prints, or anything else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A file that has grown so large becomes FILE.1, and the one before that is gone.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Passes on what the guest prints.
#[derive(Debug)]
pub struct Console {
    thread: JoinHandle<()>,
}

impl Console {
    /// To a file, which is begun anew. What is written to the descriptor goes there, until all copies of it are closed.
    pub fn to_file(path: &Path) -> io::Result<(Self, OwnedFd)> {
        Self::to(BoundedFile::create(path, LARGEST)?)
    }

    /// To whatever takes it, from a thread of its own: neither engine nor guest waits for it.
    pub fn to(mut sink: impl Write + Send + 'static) -> io::Result<(Self, OwnedFd)> {
        let (ours, engines) = UnixStream::pair()?;
        let copy = move || copy(ours, &mut sink);
        let thread = std::thread::Builder::new().name("console".to_owned()).spawn(copy)?;
        Ok((Self { thread }, engines.into()))
    }

    /// Returns when the last words are written: once the engine has ended.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

fn copy(mut from: UnixStream, sink: &mut impl Write) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // A guest goes on when the host cannot keep what it prints, as while its disk is full.
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Err(error) = sink.write_all(bytes).and_then(|()| sink.flush()) {
            tracing::debug!(%error, "what the guest prints cannot be written");
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

    /// Puts the file aside once it has grown large.
    fn bound(&mut self) -> io::Result<()> {
        if self.size >= self.largest {
            match std::fs::rename(&self.path, self.path.with_added_extension("1")) {
                // The file could be put aside before, but a new one could not be made.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            *self = Self::create(&self.path, self.largest)?;
        }
        Ok(())
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bound()?;
        let count = self.file.write(bytes)?;
        self.size = self.size.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{BoundedFile, Console};

    #[test]
    fn what_is_printed_is_in_the_file_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        std::fs::write(&path, "of the boot before").unwrap();
        let (console, engines) = Console::to_file(&path).unwrap();
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
            log.write_all(&[b'x'; 30]).unwrap();
        }
        let sizes: Vec<u64> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2, "console.log and console.log.1");
        assert!(sizes.iter().all(|size| (1..=120).contains(size)), "{sizes:?}");
    }
}
