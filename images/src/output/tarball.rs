//! An appliance as a tar archive.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use tar::{Builder, EntryType, Header};

use super::{Place, failed, initrd, size};
use crate::build::Build;
use crate::error::Error;
use crate::progress::Stage;
use crate::provenance::{Material, Origin};
use crate::rootfs::tarball::{self, Records, TIME};
use crate::rootfs::{Content, Entry, Tree};

/// The whole root, with the kernel below `boot`.
pub(super) fn write(build: &Build<'_>, place: &Place) -> Result<(), Error> {
    let kernel = build.kernel()?;
    let mut boot = Tree::default();
    let origin = Origin { item: None, image: Some(build.kernel_origin().id()), material: Material::Kernel };
    let origin = Arc::new(origin);
    let mut put = |path: &str, content: Content| boot.put(path, Entry::file(0o644, content).of(&origin));
    put("boot/cmdline", Content::from(build.definition.kernel.cmdline.as_bytes()));
    let file = File::open(&kernel.image).and_then(|file| build.spool.add(file));
    put("boot/kernel", file.map_err(failed("the archive"))?);
    if let Some(code) = kernel.microcode {
        put("boot/ucode.cpio", code);
    }
    let mut root = build.tree(&kernel.modules)?;
    root.graft("", &boot, None);
    Stage::run(build.request.progress, "archive: write", || {
        place.stream(|to| tarball::write(&root, Records::Origins, to))
    })
    .map_err(failed("the archive"))?;
    Ok(())
}

/// An archive of the kernel, the initial ramdisk and the command line, and of the microcode where there is some: that is left
/// to whoever puts them together.
pub(super) fn write_kernel_and_initrd(build: &Build<'_>, place: &Place) -> Result<(), Error> {
    let kernel = build.kernel()?;
    let root = build.tree(&kernel.modules)?;
    let ramdisk = build.scratch.path().join("initrd.img");
    Stage::run(build.request.progress, "initial ramdisk: compress", || initrd::make(&root, None, &ramdisk))
        .map_err(failed("the initial ramdisk"))?;
    let words = build.definition.kernel.cmdline.as_bytes();
    let write = |to: &mut dyn io::Write| {
        let mut archive = Builder::new(to);
        for (name, path) in [("kernel", &kernel.image), ("initrd.img", &ramdisk)] {
            add(&mut archive, name, size(path)?, File::open(path)?)?;
        }
        add(&mut archive, "cmdline", words.len() as u64, words)?;
        if let Some(code) = &kernel.microcode {
            add(&mut archive, "ucode.cpio", code.size(), code.reader())?;
        }
        archive.into_inner().map(drop)
    };
    Ok(place.stream(write).map_err(failed("the archive"))?)
}

fn add(archive: &mut Builder<impl io::Write>, name: &str, size: u64, from: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(size);
    archive.append_data(&mut header, name, from)
}
