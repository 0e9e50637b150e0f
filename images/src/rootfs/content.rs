//! What is in a file of a tree. A build goes through gigabytes, so they lie in one file of the disk, the spool, each
//! content once, or in a pack of what an earlier build has compressed; only what the build writes itself is in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::pack::{Packed, Window};

/// SHA-256.
pub(crate) type Digest = [u8; 32];

/// The bytes of a file.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Here(Arc<[u8]>),
    Spooled(Spooled),
    Packed(Packed),
}

/// A part of a spool, which stays for as long as there are any.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    spool: Arc<File>,
    at: u64,
    size: u64,
    digest: Digest,
}

impl Content {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Spooled(part) => part.size,
            Self::Packed(packed) => packed.size(),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        match self {
            Self::Here(bytes) => Sha256::digest(bytes).into(),
            Self::Spooled(part) => part.digest,
            Self::Packed(packed) => packed.digest(),
        }
    }

    /// From the first byte on.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { content: self, at: 0, window: Window::default() }
    }
}

/// By what is in it, wherever it lies.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.size() == other.size() && self.digest() == other.digest()
    }
}

impl Eq for Content {}

impl<T: Into<Arc<[u8]>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Here(bytes.into())
    }
}

/// Reads a content.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    content: &'a Content,
    at: u64,
    window: Window,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.size().saturating_sub(self.at);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match self.content {
            Content::Spooled(part) => part.spool.read_at(buffer, part.at.saturating_add(self.at))?,
            Content::Here(bytes) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(start..).unwrap_or_default().read(buffer)?
            }
            Content::Packed(packed) => self.window.at(packed, self.at)?.read(buffer)?,
        };
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.content.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Where the contents of one build lie.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<File>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    end: u64,
    /// Where each content begins.
    places: HashMap<(Digest, u64), u64>,
}

impl Spool {
    /// An empty one, on the disk that this directory is on.
    pub(crate) fn below(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(directory)?), kept: Mutex::default() })
    }

    /// Everything that is read, kept.
    pub(crate) fn add(&self, mut from: impl Read) -> io::Result<Content> {
        // Held while it reads: contents lie one behind the other.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut size = 0_u64;
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
            hash.update(part);
            self.file.write_all_at(part, kept.end.saturating_add(size))?;
            size = size.saturating_add(count as u64);
        }
        let digest = hash.finalize().into();
        let (end, next) = (kept.end, kept.end.saturating_add(size));
        let at = *kept.places.entry((digest, size)).or_insert(end);
        // Of what was there already, the next content is written over the second copy.
        if at == end {
            kept.end = next;
        }
        Ok(Content::Spooled(Spooled { spool: Arc::clone(&self.file), at, size, digest }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content) -> Vec<u8> {
        let mut bytes = Vec::new();
        content.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_content_is_kept_once_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::below(directory.path()).unwrap();
        let long = vec![7; 200_000];
        let contents: Vec<_> =
            [&b"one"[..], &long, b"", b"one", &long, b"two"].map(|bytes| spool.add(bytes).unwrap()).into();
        let sizes: Vec<_> = contents.iter().map(Content::size).collect();
        assert_eq!(sizes, [3, 200_000, 0, 3, 200_000, 3]);
        assert_eq!(
            contents.iter().map(read).collect::<Vec<_>>(),
            [&b"one"[..], &long, b"", b"one", &long, b"two"]
        );
        assert_eq!(contents[0], contents[3]);
        assert_eq!(contents[0], Content::from(*b"one"));
        assert_ne!(contents[0], contents[5]);
        assert_eq!(spool.kept.lock().unwrap().end, 200_006);
        // It leaves no name behind, and outlives who made it.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(spool);
        assert_eq!(read(&contents[5]), b"two");
    }

    #[test]
    fn a_reader_is_where_it_was_put() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::below(directory.path()).unwrap();
        spool.add(&b"before"[..]).unwrap();
        let spooled = spool.add(&b"0123456789"[..]).unwrap();
        spool.add(&b"behind"[..]).unwrap();
        for content in [spooled, Content::from(*b"0123456789")] {
            let mut reader = content.reader();
            let mut buffer = [0; 4];
            for (to, expected) in [
                (SeekFrom::Start(2), &b"2345"[..]),
                (SeekFrom::Current(-1), b"5678"),
                (SeekFrom::End(-3), b"789"),
                (SeekFrom::Start(99), b""),
            ] {
                reader.seek(to).unwrap();
                let count = reader.read(&mut buffer).unwrap();
                assert_eq!(&buffer[..count], expected, "{to:?}");
            }
            assert!(reader.seek(SeekFrom::End(-11)).is_err());
        }
    }

    #[test]
    fn what_cannot_be_read_to_its_end_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::below(directory.path()).unwrap();
        assert!(spool.add(b"half of it".chain(Broken)).is_err());
        assert_eq!(read(&spool.add(&b"x"[..]).unwrap()), b"x");
        assert_eq!(spool.kept.lock().unwrap().end, 1);
    }
}
