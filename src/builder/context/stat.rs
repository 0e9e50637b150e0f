//! What the receiver is told of a file: the daemon hashes it, so every field has to be what a Go client would send.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::packet::Stat;

/// Go's `os.FileMode` (its type and sticky bits are not Unix's).
pub(crate) mod go_mode {
    pub(crate) const DIRECTORY: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const NAMED_PIPE: u32 = 1 << 25;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHARACTER_DEVICE: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
    /// All bits that say that an entry has no contents of its own.
    pub(crate) const TYPES: u32 = DIRECTORY | SYMLINK | DEVICE | NAMED_PIPE | CHARACTER_DEVICE;
}

/// Extended attributes of macOS that mean nothing to a Linux guest.
const LEFT_OUT: &str = "com.apple.";
/// Linux's limit of an attribute and of the list of their names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// Whether the receiver may ask for the contents.
pub(crate) fn has_contents(mode: u32) -> bool {
    mode & go_mode::TYPES == 0
}

/// The entry for `path`, whose metadata (not followed) and symlink target are known. Owners are not told: in the
/// image everything belongs to root unless the Dockerfile says otherwise.
pub(crate) fn of(name: Vec<u8>, path: &Path, metadata: &Metadata) -> io::Result<Stat> {
    let kind = metadata.file_type();
    let link = if kind.is_symlink() {
        std::fs::read_link(path)?.into_os_string().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let (device_major, device_minor) = if kind.is_block_device() || kind.is_char_device() {
        let (major, minor) = vmm::platform::device_numbers(metadata.rdev());
        (i64::from(major), i64::from(minor))
    } else {
        (0, 0)
    };
    Ok(Stat {
        path: name,
        mode: mode(metadata),
        size: if kind.is_dir() { 0 } else { i64::try_from(metadata.size()).unwrap_or(i64::MAX) },
        modified: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        link,
        device_major,
        device_minor,
        attributes: attributes(path)?,
        ..Stat::default()
    })
}

/// A socket becomes an empty file, as archives have no word for it either.
fn mode(metadata: &Metadata) -> u32 {
    let unix = metadata.mode();
    let kind = metadata.file_type();
    let mut mode = unix & 0o777;
    for (set, bit) in [
        (kind.is_dir(), go_mode::DIRECTORY),
        (kind.is_symlink(), go_mode::SYMLINK),
        (kind.is_fifo(), go_mode::NAMED_PIPE),
        (kind.is_block_device() || kind.is_char_device(), go_mode::DEVICE),
        (kind.is_char_device(), go_mode::CHARACTER_DEVICE),
        (unix & 0o4000 != 0, go_mode::SETUID),
        (unix & 0o2000 != 0, go_mode::SETGID),
        (unix & 0o1000 != 0, go_mode::STICKY),
    ] {
        if set {
            mode |= bit;
        }
    }
    mode
}

/// The extended attributes that can be read; none where the file system has none.
fn attributes(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut attributes = BTreeMap::new();
    let mut names = Vec::with_capacity(MAX_ATTRIBUTE);
    match rustix::fs::llistxattr(path, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => return Ok(attributes),
        Err(error) => return Err(error.into()),
    }
    for name in names.split(|byte: &u8| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name.is_empty() || name.starts_with(LEFT_OUT) {
            continue;
        }
        let mut value = Vec::with_capacity(MAX_ATTRIBUTE);
        if rustix::fs::lgetxattr(path, name, spare_capacity(&mut value)).is_ok() {
            value.shrink_to_fit();
            attributes.insert(name.to_owned(), value);
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stat(path: &Path) -> Stat {
        of(b"name".to_vec(), path, &fs::symlink_metadata(path).unwrap()).unwrap()
    }

    #[test]
    fn regular_files_keep_permissions_size_and_nanoseconds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "hello").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 123_456_789);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        let stat = stat(&path);
        assert_eq!((stat.mode, stat.size), (0o751 | 1 << 23, 5));
        assert_eq!(stat.modified, 1_600_000_000_123_456_789);
        assert_eq!((stat.uid, stat.gid), (0, 0));
        assert!(has_contents(stat.mode));
    }

    #[test]
    fn directories_links_pipes_and_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::set_permissions(at("d"), fs::Permissions::from_mode(0o1755)).unwrap();
        assert_eq!((stat(&at("d")).mode, stat(&at("d")).size), (0o755 | 1 << 31 | 1 << 20, 0));

        std::os::unix::fs::symlink("to/where", at("l")).unwrap();
        let link = stat(&at("l"));
        assert_eq!(
            (link.mode & !0o777, link.size, link.link.as_slice()),
            (1 << 27, 8, b"to/where".as_slice())
        );
        assert!(!has_contents(link.mode));

        assert!(std::process::Command::new("mkfifo").arg(at("p")).status().unwrap().success());
        assert_eq!(stat(&at("p")).mode & !0o777, 1 << 25);

        let _socket = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
        assert!(has_contents(stat(&at("s")).mode), "a socket is sent as an empty file");
    }

    #[test]
    fn extended_attributes_travel_where_there_are_any() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::lsetxattr(&path, "user.mvm", b"\x01\x02", flags) {
            Ok(()) => assert_eq!(stat(&path).attributes.get("user.mvm"), Some(&vec![1, 2])),
            Err(error) => assert_eq!(error, Errno::NOTSUP, "no other reason to refuse it"),
        }
        rustix::fs::lsetxattr(&path, "user.com.apple.x", b"kept", flags).ok();
        assert!(!stat(&path).attributes.keys().any(|key| key.starts_with(LEFT_OUT)));
    }
}
