//! The builder's cache between jobs: its data disk, as an archive that holds what was written to it and none of its holes.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tar::EntryType;

use crate::instance::{Config, Paths};

/// In the cache's directory, and in the archive.
const ARCHIVE: &str = "disk.tar";
const DISK: &str = "data.raw";
/// How what is not whole yet begins, beside it.
const UNFINISHED: &str = ".mvm-cache-";

/// Puts the disk where the instance will look for it; how many bytes of the archive that are, if there is one. `most` is the largest
/// disk that the machine may have, in GiB, where that was said.
pub(super) fn restore(directory: &Path, paths: &Paths, most: Option<u32>) -> io::Result<Option<u64>> {
    let archive = match File::open(directory.join(ARCHIVE)) {
        Ok(archive) => archive,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = archive.metadata()?.len();
    let restored = unpack(archive, &paths.data_disk(), most.unwrap_or(Config::for_this_host().disk_gib));
    if restored.is_err() {
        // Half of a disk is none.
        let _ = fs::remove_file(paths.data_disk());
    }
    restored.map(|()| Some(size))
}

fn unpack(archive: File, disk: &Path, most: u32) -> io::Result<()> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut archive = tar::Archive::new(io::BufReader::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path_bytes() != DISK.as_bytes() {
            continue;
        }
        // A link would make the disk of another file.
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::GNUSparse) {
            return Err(invalid("its disk is no file".to_owned()));
        }
        if entry.size() > u64::from(most) << 30 {
            let has = entry.size().div_ceil(1 << 30);
            return Err(invalid(format!("its disk has {has} GiB, and this machine's is to have {most}")));
        }
        entry.set_preserve_mtime(false);
        entry.set_mask(0o077);
        entry.unpack(disk)?;
        return Ok(());
    }
    Err(invalid("its archive has no disk".to_owned()))
}

/// Keeps the disk of a machine that has stopped; how many bytes that are. What was there before stays until this is whole.
pub(super) fn save(directory: &Path, paths: &Paths) -> io::Result<u64> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Of one that was killed.
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    let mut archive = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    let mut builder = tar::Builder::new(io::BufWriter::new(archive.as_file_mut()));
    builder.mode(tar::HeaderMode::Deterministic);
    builder.append_path_with_name(paths.data_disk(), DISK)?;
    builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let size = archive.as_file().metadata()?.len();
    archive.persist(directory.join(ARCHIVE))?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::instance::tests::scratch;

    #[test]
    fn a_disk_comes_back_with_its_holes() {
        let (_one, from) = scratch();
        let (_other, to) = scratch();
        let cache = tempfile::tempdir().unwrap();
        let directory = cache.path().join("new");
        assert_eq!(restore(&directory, &to, None).unwrap(), None, "there is none yet");
        let mut disk = File::create(from.data_disk()).unwrap();
        disk.set_len(64 << 30).unwrap();
        for (at, byte) in [(0_u64, b'a'), (5 << 30, b'b'), ((64 << 30) - 4096, b'c')] {
            disk.seek(SeekFrom::Start(at)).unwrap();
            disk.write_all(&[byte; 4096]).unwrap();
        }
        let size = save(&directory, &from).unwrap();
        assert!(size < 1 << 20, "{size} bytes");
        assert_eq!(save(&directory, &from).unwrap(), size);
        assert_eq!(restore(&directory, &to, Some(64)).unwrap(), Some(size));
        let found = fs::metadata(to.data_disk()).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (64 << 30, 0o600));
        assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
        let mut back = File::open(to.data_disk()).unwrap();
        let mut bytes = [0; 4096];
        back.seek(SeekFrom::Start(5 << 30)).unwrap();
        io::Read::read_exact(&mut back, &mut bytes).unwrap();
        assert_eq!(bytes, [b'b'; 4096]);
        fs::write(directory.join(".mvm-cache-killed"), "half").unwrap();
        save(&directory, &from).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let small = restore(&directory, &to, Some(32)).unwrap_err().to_string();
        assert_eq!(small, "its disk has 64 GiB, and this machine's is to have 32");
    }

    #[test]
    fn a_disk_that_is_a_link_is_none() {
        let (_directory, paths) = scratch();
        let cache = tempfile::tempdir().unwrap();
        let victim = cache.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory] {
            let mut builder = tar::Builder::new(File::create(cache.path().join(ARCHIVE)).unwrap());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, DISK, &victim).unwrap();
            builder.finish().unwrap();
            let error = restore(cache.path(), &paths, None).unwrap_err().to_string();
            assert_eq!(error, "its disk is no file");
            assert!(paths.data_disk().symlink_metadata().is_err(), "{kind:?}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn half_an_archive_leaves_no_disk() {
        let (_directory, paths) = scratch();
        let cache = tempfile::tempdir().unwrap();
        for wrong in [&b"no archive"[..], &[0; 2048]] {
            fs::write(cache.path().join(ARCHIVE), wrong).unwrap();
            assert!(restore(cache.path(), &paths, None).is_err());
            assert!(!paths.data_disk().exists());
        }
    }
}
