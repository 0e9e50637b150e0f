//! An initial ramdisk: a cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

/// An archive while it is written. Everything in it belongs to root; the directories above a file come by themselves.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    directories: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self { out, directories: BTreeSet::new(), entries: 0 }
    }

    /// Paths begin with no slash.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.header(path, DIRECTORY, 0)?;
        }
        Ok(())
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(path)?;
        self.content(path, SYMLINK, target.len() as u64, target.as_bytes())
    }

    /// A file with the permissions of the one that it is a copy of.
    pub fn copy(&mut self, path: &str, from: &Path) -> io::Result<()> {
        let file = File::open(from)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))?;
        let metadata = file.metadata()?;
        self.parents(path)?;
        self.content(path, REGULAR | metadata.mode() & 0o777, metadata.len(), file)
    }

    /// Without this the archive is not whole.
    pub fn finish(mut self) -> io::Result<W> {
        self.header("TRAILER!!!", 0, 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        path.rsplit_once('/').map_or(Ok(()), |(parent, _)| self.directory(parent))
    }

    fn content(&mut self, path: &str, mode: u32, size: u64, from: impl Read) -> io::Result<()> {
        self.header(path, mode, size)?;
        if io::copy(&mut from.take(size), &mut self.out)? != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} became shorter")));
        }
        self.pad(size)
    }

    fn header(&mut self, path: &str, mode: u32, size: u64) -> io::Result<()> {
        let size = u32::try_from(size).map_err(|_| io::Error::other(format!("{path} has 4 GiB or more")))?;
        self.entries += 1;
        let name = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        // ino, mode, uid, gid, nlink, mtime, filesize, dev and rdev (major, minor each), namesize, check.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        write!(self.out, "070701{fields}{path}\0")?;
        self.pad(6 + 13 * 8 + u64::from(name))
    }

    /// What follows begins at a multiple of four.
    fn pad(&mut self, length: u64) -> io::Result<()> {
        self.out.write_all(match length % 4 {
            1 => b"\0\0\0",
            2 => b"\0\0",
            3 => b"\0",
            _ => b"",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, modes and contents, read back as the kernel does.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let padded = |length: usize| length.next_multiple_of(4);
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            let field = |number: usize| {
                let digits = &archive[at + 6 + number * 8..][..8];
                usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            assert_eq!(&archive[at..at + 6], b"070701");
            let (mode, size, name) = (field(1), field(6), field(11));
            let text = String::from_utf8(archive[at + 110..at + 110 + name - 1].to_vec()).unwrap();
            let content = at + padded(110 + name);
            at = content + padded(size);
            if text == "TRAILER!!!" {
                assert_eq!(at, archive.len());
                return entries;
            }
            let content = archive[content..content + size].to_vec();
            entries.push((text, u32::try_from(mode).unwrap(), content));
        }
    }

    #[test]
    fn what_was_put_in_is_found_with_its_directories() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for length in 0..9 {
            std::fs::write(&file, &b"12345678"[..length]).unwrap();
            let mut archive = Archive::new(Vec::new());
            archive.copy("a/bc/file", &file).unwrap();
            archive.symlink("a/link", "bc/file").unwrap();
            archive.directory("a").unwrap();
            let found = entries(&archive.finish().unwrap());
            let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
            assert_eq!(names, ["a", "a/bc", "a/bc/file", "a/link"]);
            assert_eq!(found[0].1, DIRECTORY);
            assert_eq!(found[2].1 & 0o170_000, REGULAR);
            assert_eq!(found[2].2, &b"12345678"[..length]);
            assert_eq!((found[3].1, found[3].2.as_slice()), (SYMLINK, b"bc/file".as_slice()));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Archive::new(Vec::new()).copy("x", Path::new("/nowhere/x")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x: No such file"), "{error}");
    }
}
