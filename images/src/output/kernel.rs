//! A kernel, a root and a command line, each a file of its own.

use std::fs;
use std::io;
use std::path::Path;

use super::{Format, OutputError, Place, failed, initrd};
use crate::build::Build;
use crate::error::Error;
use crate::progress::Stage;
use crate::rootfs::squashfs;

pub(super) const KERNEL: &str = "-kernel";
pub(super) const CMDLINE: &str = "-cmdline";
pub(super) const EROFS: &str = "-erofs.img";
pub(super) const SQUASHFS: &str = "-squashfs.img";
pub(super) const INITRD: &str = "-initrd.img";

pub(super) fn write(build: &Build<'_>, format: Format, place: &Place) -> Result<(), Error> {
    let kernel = build.kernel()?;
    put(place, KERNEL, |path| fs::copy(&kernel.image, path).map(drop))?;
    let words = &build.definition.kernel.cmdline;
    put(place, CMDLINE, |path| fs::write(path, words))?;
    let root = build.tree(&kernel.modules)?;
    match format {
        Format::KernelSquashfs => {
            let tool = build.tool("squashfs")?;
            let Some(image) = place.making(SQUASHFS) else { return Ok(()) };
            Stage::run(build.request.progress, "root image: compress", || {
                squashfs::make(&tool, &root, &image)
            })
            .map_err(OutputError::from)?;
        }
        Format::KernelInitrd => {
            Stage::run(build.request.progress, "initial ramdisk: compress", || {
                put(place, INITRD, |path| initrd::make(&root, kernel.microcode.as_ref(), path))
            })?;
        }
        _ => {
            let image = build.erofs(root)?;
            put(place, EROFS, |path| fs::copy(&image, path).map(drop))?;
        }
    }
    Ok(())
}

fn put(
    place: &Place,
    ending: &'static str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), OutputError> {
    let what = ending.trim_start_matches('-');
    place.making(ending).map_or(Ok(()), |path| fill(&path)).map_err(failed(what))
}
