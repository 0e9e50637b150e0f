//! `format [-label LABEL] DEVICE`: makes ext4 on a new disk, and never on one that holds anything.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Context;
use super::signature::{Content, inspect};
use crate::bundle::path::resolve;
use crate::process::{Exit, Program, SpawnError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage: format [-label LABEL] DEVICE")]
    Usage,
    #[error("there is no device {}; is the data disk attached to the machine?", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {source}", device.display())]
    Read { device: PathBuf, source: io::Error },
    #[error("{} holds {what}; mvm does not overwrite it: give the machine a new disk or an ext4 file system", device.display())]
    Occupied { device: PathBuf, what: &'static str },
    #[error("{} is read-only; the data disk has to be writable", .0.display())]
    ReadOnly(PathBuf),
    #[error("the container of the format step has no mke2fs")]
    NoProgram,
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("mke2fs failed on {}: {exit}", device.display())]
    Failed { device: PathBuf, exit: Exit },
}

pub(super) async fn run(context: &Context<'_>, args: &[String]) -> Result<(), super::Error> {
    let (label, device) = parse(args).ok_or(Error::Usage)?;
    Ok(format(context, label, &resolve(&context.bundle.rootfs, device)).await?)
}

fn parse(args: &[String]) -> Option<(Option<&str>, &str)> {
    match args {
        [device] => Some((None, device)),
        [flag, label, device] if flag == "-label" => Some((Some(label), device)),
        _ => None,
    }
}

async fn format(context: &Context<'_>, label: Option<&str>, device: &Path) -> Result<(), Error> {
    if !device.exists() {
        return Err(Error::Missing(device.to_owned()));
    }
    let failed = |source| Error::Read { device: device.to_owned(), source };
    let mut file = File::open(device).map_err(failed)?;
    match inspect(&mut file).map_err(failed)? {
        Content::Ext4 => return Ok(()),
        Content::Other(what) => return Err(Error::Occupied { device: device.to_owned(), what }),
        Content::Nothing => drop(file),
    }
    // A read-only device opens for writing, and fails at the first write: ask before.
    if is_read_only(device) {
        return Err(Error::ReadOnly(device.to_owned()));
    }
    context.say(&format!("making a file system on {}", device.display()));
    let finished = mke2fs(&context.bundle.rootfs, label, device)?
        .run(context.children, context.logs, context.source)
        .await?;
    match finished.exit {
        exit if exit.success() => Ok(()),
        exit => Err(Error::Failed { device: device.to_owned(), exit }),
    }
}

fn is_read_only(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let file = Path::new("/sys/class/block").join(name).join("ro");
    std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

/// mke2fs from the container's files. It runs in the guest's root, since it needs `/dev`: through the container's own
/// dynamic loader and libraries.
fn mke2fs(rootfs: &Path, label: Option<&str>, device: &Path) -> Result<Program, Error> {
    let program = find(rootfs, &["usr/sbin/mke2fs", "sbin/mke2fs"]).ok_or(Error::NoProgram)?;
    let base = match find(rootfs, LOADERS) {
        Some(loader) => {
            let libraries = LIBRARIES.iter().map(|path| rootfs.join(path).display().to_string());
            let libraries = libraries.collect::<Vec<_>>().join(":");
            Program::new(&loader).args(["--library-path", libraries.as_str()]).args([program])
        }
        None => Program::new(&program),
    };
    // New blocks of the disk read as zeros, so nothing has to be discarded or zeroed first. Inode tables and journal
    // are left to be initialized when they are first used.
    let base = base.env("MKE2FS_CONFIG", rootfs.join("etc/mke2fs.conf").as_os_str()).args([
        "-q",
        "-F",
        "-t",
        "ext4",
        // No blocks for root alone: everything here runs as root.
        "-m",
        "0",
        "-E",
        "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
    ]);
    let base = match label {
        Some(label) => base.args(["-L", label]),
        None => base,
    };
    Ok(base.args([device]))
}

#[cfg(target_arch = "x86_64")]
const LOADERS: &[&str] = &[
    "usr/lib64/ld-linux-x86-64.so.2",
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
];
#[cfg(target_arch = "x86_64")]
const LIBRARIES: &[&str] = &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];
#[cfg(target_arch = "aarch64")]
const LOADERS: &[&str] = &[
    "usr/lib/ld-linux-aarch64.so.1",
    "lib/ld-linux-aarch64.so.1",
    "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
];
#[cfg(target_arch = "aarch64")]
const LIBRARIES: &[&str] = &["usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib"];

fn find(rootfs: &Path, candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().map(|path| rootfs.join(path)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_optional() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(&words(&["/dev/vdb"])), Some((None, "/dev/vdb")));
        assert_eq!(parse(&words(&["-label", "data", "/dev/vdb"])), Some((Some("data"), "/dev/vdb")));
        assert_eq!(parse(&words(&["-force", "data", "/dev/vdb"])), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn a_container_without_mke2fs_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let error = mke2fs(directory.path(), None, Path::new("/dev/vdb")).unwrap_err();
        assert_eq!(error.to_string(), "the container of the format step has no mke2fs");
    }
}
