//! What a machine with EFI firmware starts: one program with the kernel and all that it needs in it, on the firmware's
//! own file system, on a disk or a disc.

mod disk;
mod fat;
mod iso;
mod program;
mod qcow2;

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::{Format, Output, OutputError, failed, initrd};
use crate::build::Build;
use crate::error::Error;
use crate::files;
use crate::kernel;
use crate::progress::Stage;
use crate::rootfs::Tree;
use program::{Content, Section};

/// Why there is nothing that firmware starts.
#[derive(Debug, thiserror::Error)]
pub enum EfiError {
    #[error(
        "the file of {0} is not one that EFI firmware can start: its kernel was built without CONFIG_EFI_STUB"
    )]
    NoStub(String),
    #[error("there is no EFI program for {0}")]
    Architecture(&'static str),
    #[error("a disk of {size_mib} MiB is too small; it takes {needed_mib}")]
    Small { size_mib: u32, needed_mib: u64 },
    #[error(transparent)]
    Disc(#[from] iso::IsoError),
    #[error("cannot make {what}")]
    Make { what: &'static str, source: io::Error },
}

/// What the firmware of an architecture starts, where nobody has told it anything (UEFI 2.10, 3.5.1.1), and the stub that
/// is made into it.
fn names(architecture: &'static str) -> Result<(&'static str, &'static str), EfiError> {
    match architecture {
        "amd64" => Ok(("BOOTX64.EFI", "linuxx64.efi.stub")),
        "arm64" => Ok(("BOOTAA64.EFI", "linuxaa64.efi.stub")),
        other => Err(EfiError::Architecture(other)),
    }
}

pub(super) fn write(build: &Build<'_>, output: &Output) -> Result<(), Error> {
    let (program, stub) = names(build.architecture.debian).map_err(OutputError::from)?;
    let kernel = build.kernel()?;
    if !program::is_one(&kernel.image).map_err(failed("the program"))? {
        let name = build.kernel_origin().name().to_owned();
        return Err(OutputError::from(EfiError::NoStub(name)).into());
    }
    let root = build.tree(&kernel.modules)?;
    let stub = build.tool("efi-stub")?.root.join("usr/lib/systemd/boot/efi").join(stub);
    let place = output.format.endings().first().and_then(|ending| output.place.making(ending));
    let Some(place) = place else { return Ok(()) };
    let making = Making { build, kernel, program, stub, place };
    if output.format == Format::IsoEfi { making.disc(&root) } else { making.disk(root, output) }
}

/// The words of a kernel whose root is a partition: of those that the definition has, none about another root.
fn words(cmdline: &str, root: &Uuid) -> String {
    const ABOUT_THE_ROOT: [&str; 3] = ["root=", "rootfstype=", "rootflags="];
    let own =
        cmdline.split_whitespace().filter(|word| !ABOUT_THE_ROOT.iter().any(|key| word.starts_with(key)));
    // Of an init that is named twice the last counts: that of the definition.
    let mut words = vec!["init=/init"];
    words.extend(own);
    let root = format!("root=PARTUUID={root}");
    words.extend([root.as_str(), "rootfstype=erofs", "ro", "rootwait"]);
    words.join(" ")
}

struct Making<'a> {
    build: &'a Build<'a>,
    kernel: kernel::Made,
    /// Its file's name.
    program: &'static str,
    stub: PathBuf,
    place: PathBuf,
}

impl Making<'_> {
    fn disc(&self, root: &Tree) -> Result<(), Error> {
        let ramdisk = self.scratch("initrd.img");
        Stage::run(self.build.request.progress, "initial ramdisk: compress", || {
            initrd::make(root, self.kernel.microcode.as_ref(), &ramdisk)
        })
        .map_err(failed("the initial ramdisk"))?;
        let boot = self.file_system(self.build.definition.kernel.cmdline.clone(), Some(ramdisk))?;
        let xorriso = self.build.tool("xorriso")?;
        Stage::run(self.build.request.progress, "disc: write", || iso::make(&xorriso, &boot, &self.place))
            .map_err(|error| OutputError::from(EfiError::from(error)).into())
    }

    fn disk(&self, root: Tree, output: &Output) -> Result<(), Error> {
        let root = self.build.erofs(root)?;
        let root_id = id("root", &[&root]).map_err(failed("the disk"))?;
        let words = words(&self.build.definition.kernel.cmdline, &root_id);
        let boot = self.file_system(words, None)?;
        let disk = disk::Disk { boot: &boot, root: &root, root_id, size_mib: output.size_mib };
        Stage::run(self.build.request.progress, "disk: write", || {
            if output.format == Format::RawEfi {
                return disk.write(&self.place).map(drop);
            }
            let raw = self.scratch("disk.img");
            let extents = disk.write(&raw)?;
            qcow2::convert(&raw, &extents, &self.place).map_err(make("the disk"))
        })
        .map_err(|error| OutputError::from(error).into())
    }

    /// The firmware's file system with the one program.
    fn file_system(&self, cmdline: String, ramdisk: Option<PathBuf>) -> Result<PathBuf, OutputError> {
        let release = "ID=mvm\nNAME=mvm\nPRETTY_NAME=mvm\n".to_owned();
        let mut sections = vec![
            Section { name: ".osrel", content: Content::Text(release) },
            Section { name: ".cmdline", content: Content::Text(cmdline) },
        ];
        sections.extend(ramdisk.map(|path| Section { name: ".initrd", content: Content::File(path) }));
        sections.push(Section { name: ".linux", content: Content::File(self.kernel.image.clone()) });
        let program = self.scratch("program.efi");
        program::make(&self.stub, &sections, &program).map_err(failed("the program"))?;
        let image = self.scratch(iso::BOOT);
        fat::make(&program, &format!("EFI/BOOT/{}", self.program), &image)
            .map_err(failed("the firmware's file system"))?;
        Ok(image)
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.build.scratch.path().join(name)
    }
}

/// An id that is the same for the same files.
fn id(of: &str, files: &[&Path]) -> io::Result<Uuid> {
    let mut hash = Sha256::new();
    hash.update(of);
    for file in files {
        hash.update(files::sha256(file)?);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let bytes = digest.first_chunk().copied().unwrap_or_default();
    Ok(Builder::from_custom_bytes(bytes).into_uuid())
}

fn make<'a>(what: &'static str) -> impl FnOnce(io::Error) -> EfiError + 'a {
    move |source| EfiError::Make { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_partition_and_init_what_the_definition_says() {
        let root = Uuid::from_u128(1);
        assert_eq!(
            words("console=ttyS0 root=/dev/vda rootfstype=erofs ro init=/sbin/init", &root),
            "init=/init console=ttyS0 ro init=/sbin/init root=PARTUUID=00000000-0000-0000-0000-000000000001 \
             rootfstype=erofs ro rootwait"
        );
    }
}
