//! An appliance as files: for other machines, and for other tools.
//!
//! The same inputs are the same bytes, in every format: no time, no name and no number in them is of the machine that
//! makes them.

mod docker;
mod efi;
mod initrd;
mod kernel;
mod place;
mod tarball;

use std::io;
use std::path::{Path, PathBuf};

pub use efi::EfiError;
pub use place::{Place, PlaceError};

use crate::build::Build;
use crate::error::Error;
use crate::image::ExportError;
use crate::kernel::Origin;
use crate::layout::LayoutError;
use crate::rootfs::squashfs::SquashfsError;

/// What a build makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `mvm up` boots.
    KernelErofs,
    KernelSquashfs,
    KernelInitrd,
    Tar,
    TarKernelInitrd,
    /// An image of a container, as an archive.
    Docker,
    RawEfi,
    Qcow2Efi,
    IsoEfi,
}

/// A build's result as files.
#[derive(Debug)]
pub struct Output {
    pub format: Format,
    /// How large a disk is at least, in MiB; as large as it has to be unless given.
    pub size_mib: Option<u32>,
    pub place: Place,
}

impl Format {
    pub const ALL: [Self; 9] = [
        Self::KernelErofs,
        Self::KernelSquashfs,
        Self::KernelInitrd,
        Self::Tar,
        Self::TarKernelInitrd,
        Self::Docker,
        Self::RawEfi,
        Self::Qcow2Efi,
        Self::IsoEfi,
    ];

    /// As LinuxKit calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KernelErofs => "kernel+erofs",
            Self::KernelSquashfs => "kernel+squashfs",
            Self::KernelInitrd => "kernel+initrd",
            Self::Tar => "tar",
            Self::TarKernelInitrd => "tar-kernel-initrd",
            Self::Docker => "docker",
            Self::RawEfi => "raw-efi",
            Self::Qcow2Efi => "qcow2-efi",
            Self::IsoEfi => "iso-efi",
        }
    }

    /// The format of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether it is a disk, whose size can be chosen.
    #[must_use]
    pub const fn is_disk(self) -> bool {
        matches!(self, Self::RawEfi | Self::Qcow2Efi)
    }

    /// Whether it is one archive, which is written from its beginning to its end.
    const fn is_stream(self) -> bool {
        matches!(self, Self::Tar | Self::TarKernelInitrd | Self::Docker)
    }

    /// What its files are called behind the name of the whole.
    const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::KernelErofs => &[kernel::KERNEL, kernel::EROFS, kernel::CMDLINE],
            Self::KernelSquashfs => &[kernel::KERNEL, kernel::SQUASHFS, kernel::CMDLINE],
            Self::KernelInitrd => &[kernel::KERNEL, kernel::INITRD, kernel::CMDLINE],
            Self::Tar => &[".tar"],
            Self::TarKernelInitrd => &["-initrd.tar"],
            Self::Docker => &[".docker"],
            Self::RawEfi => &["-efi.img"],
            Self::Qcow2Efi => &["-efi.qcow2"],
            Self::IsoEfi => &["-efi.iso"],
        }
    }

    /// What the kernel has to have been configured with.
    const fn wants(self) -> Option<&'static str> {
        match self {
            Self::KernelSquashfs => Some("CONFIG_SQUASHFS"),
            Self::RawEfi | Self::Qcow2Efi | Self::IsoEfi => Some("CONFIG_EFI_STUB"),
            _ => None,
        }
    }
}

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(
        "the kernel {kernel} has no {option}, which {format} needs; mvm's own kernel that has it is kernel.image: mvm/kernel-efi"
    )]
    Kernel { kernel: String, option: &'static str, format: &'static str },
    #[error("microcode comes before an initial ramdisk, and {0} has none; leave out kernel.ucode")]
    Microcode(&'static str),
    #[error("cannot make {what}")]
    Make { what: &'static str, source: io::Error },
    #[error("cannot make the image of the root")]
    Squashfs(#[from] SquashfsError),
    #[error(transparent)]
    Efi(#[from] EfiError),
    #[error("cannot make the image")]
    Image(#[from] LayoutError),
    #[error("cannot write the image")]
    Export(#[from] ExportError),
}

/// Makes the files of a format; which they are, none for what went to standard output.
pub(crate) fn write(build: &Build<'_>, output: &Output) -> Result<Vec<PathBuf>, Error> {
    let (format, place) = (output.format, &output.place);
    check(build, format)?;
    match format {
        Format::KernelErofs | Format::KernelSquashfs | Format::KernelInitrd => {
            kernel::write(build, format, place)?;
        }
        Format::Tar => tarball::write(build, place)?,
        Format::TarKernelInitrd => tarball::write_kernel_and_initrd(build, place)?,
        Format::Docker => docker::write(build, place)?,
        Format::RawEfi | Format::Qcow2Efi | Format::IsoEfi => efi::write(build, output)?,
    }
    Ok(place.finish().map_err(OutputError::from)?)
}

/// What can be known before anything is made.
pub(crate) fn check(build: &Build<'_>, format: Format) -> Result<(), OutputError> {
    if let Some(option) = format.wants() {
        has(build.kernel_origin(), option, format)?;
    }
    let has_no_ramdisk =
        matches!(format, Format::KernelErofs | Format::KernelSquashfs | Format::RawEfi | Format::Qcow2Efi);
    if has_no_ramdisk && build.kernel_origin().brings_microcode() {
        return Err(OutputError::Microcode(format.name()));
    }
    Ok(())
}

fn has(kernel: &Origin, option: &'static str, format: Format) -> Result<(), OutputError> {
    if kernel.has(option) != Some(false) {
        return Ok(());
    }
    Err(OutputError::Kernel { kernel: kernel.name().to_owned(), option, format: format.name() })
}

/// An appliance's name as the beginning of a file's: without what stands before the last slash, and its tag.
fn stem(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split(':').next().unwrap_or(last)
}

/// What a file on the way could not become.
fn failed<'a>(what: &'static str) -> impl FnOnce(io::Error) -> OutputError + 'a {
    move |source| OutputError::Make { what, source }
}

/// The size of a file.
fn size(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
        }
        assert_eq!(Format::named("raw-bios"), None);
    }

    #[test]
    fn files_are_named_after_the_last_part_of_a_name() {
        assert_eq!(["my", "mvm/appliance:latest", "host:5000/a/b:1"].map(stem), ["my", "appliance", "b"]);
    }
}
