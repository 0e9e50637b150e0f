//! A content on its way into a layout: it comes in pieces, and goes on where it was broken off.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256};

use super::{Layout, LayoutError, io_error};
use crate::held::Held;

/// Where contents lie that are not whole yet, each under its digest.
const INCOMING: &str = "incoming";
/// Locked by whoever pulls: what has come has no name yet.
const PULLING: &str = "pull.lock";

/// One content that is not whole yet. What has come stays when it is dropped, for the next who brings it.
#[derive(Debug)]
pub struct Arrival {
    /// Its file is not, or no longer, where parts are.
    is_gone: bool,
    digest: Digest,
    size: u64,
    hash: Sha256,
    have: u64,
    file: File,
    /// Where it is until it is whole, and where it goes then.
    part: PathBuf,
    blob: PathBuf,
}

impl Layout {
    /// Begins a content, or goes on with it; nothing where it is there already. Blocks while another process brings it.
    pub fn arrival(&self, content: &Descriptor) -> Result<Option<Arrival>, LayoutError> {
        let digest = content.digest();
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            return Err(LayoutError::Algorithm(digest.algorithm().to_string()));
        }
        let incoming = self.incoming();
        fs::create_dir_all(&incoming).map_err(io_error("create", &incoming))?;
        let part = incoming.join(digest.digest());
        let file = loop {
            let options = File::options().read(true).append(true).create(true).clone();
            let file = options.open(&part).map_err(io_error("open", &part))?;
            file.lock().map_err(io_error("lock", &part))?;
            // Whoever held the lock may have moved or removed the file.
            let is_same = |there: fs::Metadata| file.metadata().is_ok_and(|mine| mine.ino() == there.ino());
            if fs::metadata(&part).is_ok_and(is_same) {
                break file;
            }
        };
        let blob = self.blob(digest);
        let mut arrival = Arrival {
            is_gone: false,
            digest: digest.clone(),
            size: content.size(),
            hash: Sha256::new(),
            have: 0,
            file,
            part,
            blob,
        };
        if self.has(content) {
            arrival.forget()?;
            return Ok(None);
        }
        arrival.have = io::copy(&mut &arrival.file, &mut arrival.hash).map_err(arrival.failed("read"))?;
        if arrival.have > arrival.size {
            arrival.restart()?;
        }
        Ok(Some(arrival))
    }
}

impl Layout {
    pub(crate) fn incoming(&self) -> PathBuf {
        self.dir.join(INCOMING)
    }

    /// Keeps what comes from being pruned before it has a name, as long as it is held.
    pub fn pulling(&self) -> Result<Held, LayoutError> {
        let (file, path) = self.pull_lock()?;
        Held::shared(file).map_err(io_error("lock", &path))
    }

    /// Keeps pulls waiting; nothing while there is one.
    pub(crate) fn without_pulls(&self) -> Result<Option<Held>, LayoutError> {
        let (file, path) = self.pull_lock()?;
        Held::now(file).map_err(io_error("lock", &path))
    }

    fn pull_lock(&self) -> Result<(File, PathBuf), LayoutError> {
        let path = self.dir.join(PULLING);
        let file = File::create(&path).map_err(io_error("open", &path))?;
        Ok((file, path))
    }
}

impl Arrival {
    /// How many of its bytes are here.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    #[must_use]
    pub fn missing(&self) -> u64 {
        self.size.saturating_sub(self.have)
    }

    /// Adds the next bytes. More than it can have are its end: then it is not what was asked for.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        if bytes.len() as u64 > self.missing() {
            self.forget()?;
            return Err(LayoutError::Long(self.digest.clone()));
        }
        if let Err(source) = self.file.write_all(bytes) {
            // What is half written takes the room that whoever frees a full disk would need.
            let _ = self.forget();
            return Err(self.failed("write")(source));
        }
        self.hash.update(bytes);
        self.have = self.have.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Begins anew: what comes is the whole of it.
    pub fn restart(&mut self) -> Result<(), LayoutError> {
        self.file.set_len(0).map_err(self.failed("empty"))?;
        (self.hash, self.have) = (Sha256::new(), 0);
        Ok(())
    }

    /// Takes it into the layout, if it is what its digest says; else nothing of it is left.
    pub fn finish(mut self) -> Result<(), LayoutError> {
        let found = hex::encode(self.hash.clone().finalize());
        if found != self.digest.digest() {
            self.forget()?;
            return Err(LayoutError::Wrong { expected: self.digest.to_string(), found });
        }
        let moved = self
            .file
            .set_permissions(Permissions::from_mode(0o644))
            .and_then(|()| fs::rename(&self.part, &self.blob));
        self.is_gone = moved.is_ok();
        moved.map_err(|source| LayoutError::Io { action: "write", path: self.blob.clone(), source })
    }

    fn forget(&mut self) -> Result<(), LayoutError> {
        self.is_gone = true;
        fs::remove_file(&self.part).map_err(self.failed("remove"))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> LayoutError + 'static {
        let path = self.part.clone();
        move |source| LayoutError::Io { action, path, source }
    }
}

impl Drop for Arrival {
    /// Of nothing there is nothing to go on with.
    fn drop(&mut self) {
        if self.have == 0 && !self.is_gone {
            let _ = self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::describe;

    fn layout() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        (directory, layout)
    }

    fn content(bytes: &[u8]) -> Descriptor {
        describe("a/b", &hex::encode(Sha256::digest(bytes)), bytes.len() as u64).unwrap()
    }

    fn parts(layout: &Layout) -> usize {
        fs::read_dir(layout.dir.join(INCOMING)).unwrap().count()
    }

    #[test]
    fn it_goes_on_where_it_was_broken_off() {
        let (_directory, layout) = layout();
        let wanted = content(b"whole");
        let mut first = layout.arrival(&wanted).unwrap().unwrap();
        first.write(b"wh").unwrap();
        drop(first);
        let mut second = layout.arrival(&wanted).unwrap().unwrap();
        assert_eq!((second.have(), second.missing()), (2, 3));
        second.write(b"ole").unwrap();
        second.finish().unwrap();
        assert_eq!(fs::read(layout.blob(wanted.digest())).unwrap(), b"whole");
        assert!(layout.arrival(&wanted).unwrap().is_none());
        assert_eq!(parts(&layout), 0);
    }

    #[test]
    fn what_is_something_else_leaves_nothing() {
        let (_directory, layout) = layout();
        let wanted = content(b"whole");
        let mut arrival = layout.arrival(&wanted).unwrap().unwrap();
        arrival.write(b"wrong").unwrap();
        let error = arrival.finish().unwrap_err().to_string();
        let found = content(b"wrong").digest().to_string();
        let expected = format!("what came as {} is {found}, and nothing of it was kept", wanted.digest());
        assert_eq!(error, expected);
        let mut arrival = layout.arrival(&wanted).unwrap().unwrap();
        let error = arrival.write(b"longer").unwrap_err().to_string();
        assert!(error.ends_with("has more bytes than it can have"), "{error}");
        assert!(!layout.has(&wanted));
        assert_eq!(parts(&layout), 0);
    }

    #[test]
    fn it_can_begin_anew() {
        let (_directory, layout) = layout();
        let wanted = content(b"whole");
        let mut arrival = layout.arrival(&wanted).unwrap().unwrap();
        arrival.write(b"who").unwrap();
        arrival.restart().unwrap();
        arrival.write(b"whole").unwrap();
        arrival.finish().unwrap();
        assert!(layout.has(&wanted));
    }

    #[test]
    fn a_part_that_is_too_long_is_not_gone_on_with() {
        let (_directory, layout) = layout();
        let wanted = content(b"whole");
        drop(layout.arrival(&wanted).unwrap());
        assert_eq!(parts(&layout), 0, "nothing had come");
        fs::write(layout.dir.join(INCOMING).join(wanted.digest().digest()), b"too long").unwrap();
        assert_eq!(layout.arrival(&wanted).unwrap().unwrap().have(), 0);
    }
}
