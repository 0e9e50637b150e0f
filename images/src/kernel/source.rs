//! The part of the kernel's source that a build of ours reads: about a quarter of it.
//!
//! A whole tree is 1.6 GB and takes most of a minute to write. All files that describe the configuration have to stay,
//! wherever they are, since they include each other.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tar::{Archive, Entry, EntryType};

use super::Kernel;
use crate::architecture::Architecture;
use crate::deb::{self, DebError, root_path};
use crate::packages::{Packages, PackagesError};
use crate::progress::{Stage, Unit};
use crate::tools::{self, Tool};

/// About how many files are unpacked.
const FILES: u64 = 29_500;

/// Directories of drivers that none of our kernels compiles, but for what describes their configuration.
const UNUSED: [&str; 14] = [
    "Documentation/",
    "drivers/gpu/",
    "drivers/infiniband/",
    "drivers/media/",
    "drivers/net/ethernet/",
    "drivers/net/wireless/",
    "drivers/staging/",
    "drivers/iio/",
    "drivers/pinctrl/",
    "drivers/clk/",
    "fs/xfs/",
    "samples/",
    "sound/",
    "tools/testing/",
];

/// Why the source could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error("cannot unpack the kernel's source")]
    Unpack(#[source] io::Error),
    #[error("the kernel's source package has no {0}")]
    NoArchive(String),
}

/// Unpacks into `work/linux`: package, xz and archive are read in one pass.
pub(super) fn unpack(
    kernel: &Kernel,
    packages: &Packages<'_>,
    toolchain: &Tool,
    work: &Path,
) -> Result<(), SourceError> {
    let stage = Stage::start(packages.progress, "kernel: unpack source", Some(FILES), Unit::Files);
    let deb = packages.file(&kernel.source)?;
    let target = work.join("linux");
    let mut found = false;
    deb::visit(&deb, |path, entry| {
        if path != kernel.archive {
            return Ok(());
        }
        found = true;
        decompress(toolchain, kernel.architecture, entry, |archive| unpack_archive(archive, &target, &stage))
    })?;
    if !found {
        return Err(SourceError::NoArchive(kernel.archive.clone()));
    }
    stage.end();
    Ok(())
}

/// Runs xz of the toolchain between a compressed reader and one who reads what comes out.
fn decompress(
    toolchain: &Tool,
    architecture: Architecture,
    compressed: &mut (impl Read + ?Sized),
    read: impl FnOnce(std::process::ChildStdout) -> io::Result<()> + Send,
) -> io::Result<()> {
    let [loader, option, libraries] = tools::loader(&toolchain.root, architecture);
    let mut child = Command::new(loader)
        .args([&option, &libraries])
        .arg(toolchain.root.join("usr/bin/xz"))
        .args(["--decompress", "--stdout", "--threads=0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipes to xz"));
    };
    let result = thread::scope(|scope| {
        let reader = scope.spawn(move || read(stdout));
        let fed = io::copy(compressed, &mut stdin).map(drop);
        drop(stdin);
        // A reader that failed closes its pipe, and then feeding fails too: the reader's reason is the one that counts.
        reader.join().map_err(|_| io::Error::other("unpacking failed"))?.and(fed)
    });
    let status = child.wait()?;
    result?;
    if status.success() { Ok(()) } else { Err(io::Error::other("xz refused the archive")) }
}

fn unpack_archive(archive: impl Read, target: &Path, stage: &Stage<'_>) -> io::Result<()> {
    let mut archive = Archive::new(archive);
    let mut count = 0_u64;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path =
            root_path(&entry.path()?).ok_or_else(|| io::Error::other("a path leads out of the root"))?;
        // The archive's first directory is named after the version.
        let Some((_, path)) = path.split_once('/') else { continue };
        if !path.is_empty() && wanted(path) {
            write(&mut entry, &target.join(path))?;
            count = count.saturating_add(1);
            if count.is_multiple_of(256) {
                stage.advance(count);
            }
        }
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

/// Whether the build reads a file.
fn wanted(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("Kconfig") {
        return true;
    }
    // Makefiles and the like are read on the way to directories in which nothing is compiled.
    let builds = name == "Makefile" || name == "Kbuild" || name.starts_with("Makefile.");
    let other_arch = path
        .strip_prefix("arch/")
        .is_some_and(|rest| rest.contains('/') && !rest.starts_with("x86/") && !rest.starts_with("arm64/"));
    let unused = UNUSED.iter().any(|start| path.starts_with(start));
    // Not `include/dt-bindings/`: headers of the kernel proper include some of it.
    let device_tree = path.starts_with("arch/arm64/boot/dts/");
    builds && !path.starts_with("Documentation/") || !(other_arch || unused || device_tree)
}

fn write(entry: &mut Entry<'_, impl Read>, place: &Path) -> io::Result<()> {
    let make_parent = || place.parent().map_or(Ok(()), fs::create_dir_all);
    match entry.header().entry_type() {
        EntryType::Regular => {
            make_parent()?;
            let mode = entry.header().mode()? & 0o755 | 0o200;
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(place)?;
            io::copy(entry, &mut file).map(drop)
        }
        EntryType::Symlink => {
            make_parent()?;
            let target: PathBuf =
                entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?.into_owned();
            symlink(target, place)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_the_configuration_always_stays() {
        for path in [
            "arch/mips/Kconfig",
            "Documentation/Kconfig",
            "drivers/gpu/drm/amd/amdgpu/Kconfig",
            "sound/Kconfig",
            "drivers/iio/Makefile",
            "arch/x86/kernel/head_64.S",
            "drivers/virtio/virtio_mmio.c",
            "scripts/Kconfig.include",
            "include/dt-bindings/leds/common.h",
        ] {
            assert!(wanted(path), "{path}");
        }
        for path in ["arch/mips/kernel/head.S", "Documentation/index.rst", "drivers/gpu/drm/drm_drv.c"] {
            assert!(!wanted(path), "{path}");
        }
    }
}
