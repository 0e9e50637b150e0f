//! Where the guest's console goes: a file that stays small however much the guest prints, or anything else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::platform::sandbox::{Class, Confinement};

/// A file that has grown so large is copied to FILE.1, in place of what was there, and begun anew.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A file for the console, begun anew, and FILE.1 beside it. Both are opened now: later the process may open nothing.
pub fn file(path: &Path) -> io::Result<impl Write + Send + use<>> {
    BoundedFile::create(path, LARGEST)
}

/// Passes on what the guest prints.
#[derive(Debug)]
pub struct Console {
    thread: JoinHandle<()>,
}

impl Console {
    /// To whatever takes it, from a thread of its own: neither engine nor guest waits for it. What is written to the
    /// descriptor goes there, until all copies of it are closed.
    pub fn to(
        mut sink: impl Write + Send + 'static,
        confinement: Confinement,
    ) -> io::Result<(Self, OwnedFd)> {
        let (ours, engines) = UnixStream::pair()?;
        let (tell, confined) = mpsc::channel();
        let copy = move || {
            let result = confinement.confine(Class::Console);
            let is_confined = result.is_ok();
            let _ = tell.send(result);
            if is_confined {
                copy(ours, &mut sink);
            }
        };
        let thread = crate::thread::named("console").spawn(copy)?;
        confined.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
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
    file: File,
    /// None where it is no regular file, as a terminal, which does not grow.
    growing: Option<Growing>,
}

/// A file that is put aside when it has grown large.
#[derive(Debug)]
struct Growing {
    reader: File,
    aside: File,
    size: u64,
    largest: u64,
}

impl BoundedFile {
    fn create(path: &Path, largest: u64) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Self { file, growing: None });
        }
        file.set_len(0)?;
        let (reader, aside) = (File::open(path)?, File::create(path.with_added_extension("1"))?);
        Ok(Self { file, growing: Some(Growing { reader, aside, size: 0, largest }) })
    }

    /// Puts what is there aside, once it is much.
    fn bound(&mut self) -> io::Result<()> {
        if let Some(growing) = &mut self.growing
            && growing.size >= growing.largest
        {
            growing.put_aside()?;
            self.file.set_len(0)?;
            growing.size = 0;
        }
        Ok(())
    }
}

impl Growing {
    fn put_aside(&self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let mut at = 0;
        loop {
            let count = self.reader.read_at(&mut buffer, at)?;
            if count == 0 {
                return self.aside.set_len(at);
            }
            self.aside.write_all_at(buffer.get(..count).unwrap_or_default(), at)?;
            at = at.saturating_add(count as u64);
        }
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bound()?;
        let count = self.file.write(bytes)?;
        if let Some(growing) = &mut self.growing {
            growing.size = growing.size.saturating_add(count as u64);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{BoundedFile, Console, file};
    use crate::platform::sandbox::Confinement;

    #[test]
    fn what_is_printed_is_in_the_file_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        std::fs::write(&path, "of the boot before").unwrap();
        let (console, engines) = Console::to(file(&path).unwrap(), Confinement::default()).unwrap();
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
        let mut printed = String::new();
        for number in 0..1000 {
            let line = format!("this is line {number:010}\n");
            log.write_all(line.as_bytes()).unwrap();
            printed.push_str(&line);
        }
        let part = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
        let kept = part("console.log.1") + &part("console.log");
        assert!(printed.ends_with(&kept) && (100..=240).contains(&kept.len()), "{kept}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_regular_file_is_only_written() {
        let mut null = BoundedFile::create(std::path::Path::new("/dev/null"), 1).unwrap();
        null.write_all(b"one").unwrap();
        null.write_all(b"two").unwrap();
        assert!(null.growing.is_none());
    }
}
