//! `mount [-version N] DEVICE PATH`: the data disk, ext4, as large as its device, giving freed blocks back to the host, and
//! of no newer version than N.
//!
//! A disk that is full or cannot grow is no reason not to boot: only a builder that runs can make room again.

mod grow;
mod reserve;
mod version;

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use tokio::task::JoinError;

use super::Context;
use crate::bundle::path::resolve;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage: mount [-version N] DEVICE PATH")]
    Usage,
    #[error(transparent)]
    Version(#[from] version::VersionError),
    #[error("there is no device {}; is the data disk attached to the machine?", .0.display())]
    Missing(PathBuf),
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot mount {} on {}: {source}{}", device.display(), path.display(), advice(source))]
    Mount { device: PathBuf, path: PathBuf, source: io::Error },
    #[error("the data disk's mount broke off: {0}")]
    BrokeOff(#[source] JoinError),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EROFS | libc::EACCES) => "; the data disk has to be writable",
        Some(libc::EINVAL) => "; it holds no ext4 file system",
        _ => "",
    }
}

pub(super) async fn run(context: &Context<'_>, args: &[String]) -> Result<(), super::Error> {
    let (version, device, path) = parse(args).ok_or(Error::Usage)?;
    let device = resolve(&context.bundle.rootfs, device);
    let path = resolve(&context.bundle.rootfs, path);
    // Replaying the journal of a machine that was killed can take a while; the host is answered meanwhile.
    let mounted = tokio::task::spawn_blocking(move || {
        mount_ext4(&device, &path)?;
        let found = version.map(|own| version::check(&path, own)).transpose().inspect_err(|_| {
            // The machine ends now; a disk that is not mounted has nothing to recover from.
            let _ = unmount(&path, UnmountFlags::empty());
        })?;
        let of_size = [grown(&device, &path), reserved(&path)];
        let noted = version.zip(found).and_then(|(own, found)| version::note(&path, own, found));
        Ok::<_, Error>(of_size.into_iter().chain([noted]).flatten().collect::<Vec<_>>())
    });
    for remark in mounted.await.map_err(Error::BrokeOff)?? {
        context.say(&remark);
    }
    Ok(())
}

fn parse(args: &[String]) -> Option<(Option<u32>, &str, &str)> {
    match args {
        [device, path] => Some((None, device, path)),
        [flag, version, device, path] if flag == "-version" => {
            Some((Some(version.parse().ok()?), device, path))
        }
        _ => None,
    }
}

/// What there is to say of the file system's size.
fn grown(device: &Path, path: &Path) -> Option<String> {
    match grow::to_device(device, path) {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(format!("the file system on {} has {bytes} bytes now", device.display())),
        Err(error) => Some(format!("the file system on {} keeps its size: {error}", device.display())),
    }
}

/// What there is to say of the room on the disk.
fn reserved(path: &Path) -> Option<String> {
    match reserve::settle(path) {
        Ok(reserve::State::Kept) => None,
        Ok(reserve::State::Spent { free, total }) => Some(format!(
            "the data disk is full: {free} of {total} bytes are free, those that are kept for this case included"
        )),
        Err(error) => Some(format!("cannot keep room on {} for a full disk: {error}", path.display())),
    }
}

fn mount_ext4(device: &Path, path: &Path) -> Result<(), Error> {
    if !device.exists() {
        return Err(Error::Missing(device.to_owned()));
    }
    std::fs::create_dir_all(path).map_err(|source| Error::Make { path: path.to_owned(), source })?;
    let failed = |error: rustix::io::Errno| Error::Mount {
        device: device.to_owned(),
        path: path.to_owned(),
        source: error.into(),
    };
    mount(device, path, "ext4", MountFlags::NOATIME, Some(c"discard")).map_err(failed)?;
    mount_change(path, MountPropagationFlags::SHARED).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parse(&words("/dev/vdb /x")), Some((None, "/dev/vdb", "/x")));
        assert_eq!(parse(&words("-version 1 /dev/vdb /x")), Some((Some(1), "/dev/vdb", "/x")));
        for wrong in ["/dev/vdb", "-version x /dev/vdb /x", "-label 1 /dev/vdb /x"] {
            assert_eq!(parse(&words(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_missing_disk_and_a_read_only_one_are_told_apart() {
        let error = mount_ext4(Path::new("/dev/nonexistent"), Path::new("/tmp")).unwrap_err();
        let text = "there is no device /dev/nonexistent; is the data disk attached to the machine?";
        assert_eq!(error.to_string(), text);
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let error = Error::Mount { device: "/dev/vdb".into(), path: "/var/lib".into(), source };
        let text = error.to_string();
        assert!(text.starts_with("cannot mount /dev/vdb on /var/lib: Permission denied"), "{text}");
        assert!(text.ends_with("; the data disk has to be writable"), "{text}");
    }
}
