//! Where the kernel of a definition comes from: one of mvm's own is compiled, another lies in an image.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Kernel, KernelError};
use crate::architecture::Architecture;
use crate::component;
use crate::error::Error;
use crate::image::Image;
use crate::layer::{self, Budget, LayerError, Limits};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::packages::{Packages, PackagesError};
use crate::progress::Stage;
use crate::provenance::{self, ImageId, Material};
use crate::rootfs::{Content, Node, Spool, Tree};
use crate::spec::KernelSpec;

/// The files of an image that has a kernel, where the definition does not say otherwise.
const BINARY: &str = "kernel";
const MODULES: &str = "kernel.tar";
/// What a definition says for a kernel without modules.
const NONE: &str = "none";

/// Why the image of a kernel is none.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("{image} has no file {path}; say which it is with kernel.{field}{remedy}")]
    Missing { image: String, path: String, field: &'static str, remedy: &'static str },
    #[error("{path} of {image} is neither an x86_64 ELF file nor a bzImage, which are what a machine starts")]
    Kind { image: String, path: String },
    #[error("{path} of {image} cannot be unpacked")]
    Modules { image: String, path: String, source: LayerError },
    #[error("{image} is a kernel of mvm's own, which is one file; leave out kernel.{field}")]
    Own { image: String, field: &'static str },
    #[error("cannot take {path} out of {image}")]
    Write { image: String, path: String, source: io::Error },
}

/// A kernel that is known and not made yet.
pub(crate) enum Origin {
    Own { name: String, kernel: Box<Kernel> },
    Stored { spec: KernelSpec, image: Box<Image> },
}

/// A kernel, and what comes with it.
pub(crate) struct Made {
    /// An ELF file or a bzImage.
    pub(crate) image: PathBuf,
    /// What of it belongs into the root.
    pub(crate) modules: Tree,
    /// An archive that comes before an initial ramdisk.
    pub(crate) microcode: Option<Content>,
}

impl Origin {
    pub(crate) fn of(
        spec: &KernelSpec,
        (layout, lock): (&Layout, &Lock),
        architecture: Architecture,
    ) -> Result<Self, Error> {
        let name = &spec.image;
        let Some(component) = component::name_of(name) else {
            let image = Image::locked(name, (layout, lock), architecture)?;
            return Ok(Self::Stored { spec: spec.clone(), image: Box::new(image) });
        };
        let fields = [("binary", &spec.binary), ("tar", &spec.tar), ("ucode", &spec.ucode)];
        if let Some((field, _)) = fields.into_iter().find(|(_, value)| value.as_deref().is_some_and(is_some))
        {
            return Err(ForeignError::Own { image: name.clone(), field }.into());
        }
        let kernel = Box::new(Kernel::load(component)?);
        lock.check_kernel(component, architecture.debian, &kernel.configuration())
            .map_err(PackagesError::from)?;
        Ok(Self::Own { name: name.clone(), kernel })
    }

    /// Which image it is of.
    pub(crate) fn id(&self) -> ImageId {
        match self {
            Self::Own { name, .. } => ImageId { name: name.clone(), digest: None },
            Self::Stored { image, .. } => image.id.clone(),
        }
    }

    /// What the definition calls it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Own { name, .. } => name,
            Self::Stored { spec, .. } => &spec.image,
        }
    }

    /// Whether it was configured with an option, as `CONFIG_SQUASHFS`; nobody can tell of one that others made.
    pub(crate) fn has(&self, option: &str) -> Option<bool> {
        match self {
            Self::Own { kernel, .. } => Some(kernel.has(option)),
            Self::Stored { .. } => None,
        }
    }

    /// Whether it comes with microcode.
    pub(crate) fn brings_microcode(&self) -> bool {
        matches!(self, Self::Stored { spec, .. } if spec.ucode.as_deref().is_some_and(is_some))
    }

    /// Everything that it depends on.
    pub(crate) fn key(&self, packages: &Packages<'_>) -> Result<String, KernelError> {
        match self {
            Self::Own { kernel, .. } => kernel.key(packages),
            Self::Stored { image, .. } => Ok(image.digest().to_owned()),
        }
    }

    /// Compiles it or unpacks it; what is unpacked goes below `scratch`.
    pub(crate) fn make(
        &self,
        packages: &Packages<'_>,
        layout: &Layout,
        spool: &Spool,
        scratch: &Path,
    ) -> Result<Made, Error> {
        let (spec, image) = match self {
            Self::Own { kernel, .. } => {
                let image = kernel.make(packages)?;
                return Ok(Made { image, modules: Tree::default(), microcode: None });
            }
            Self::Stored { spec, image } => (spec, image),
        };
        let title = format!("{}: unpack", spec.image);
        let tree = Stage::run(packages.progress, &title, || image.unpack(layout, spool));
        let tree = tree.map_err(|source| Error::Image { name: spec.image.clone(), source })?;
        Ok(Parts { spec, tree: &tree }.take(spool, scratch)?)
    }
}

/// An image of a kernel, unpacked.
struct Parts<'a> {
    spec: &'a KernelSpec,
    tree: &'a Tree,
}

impl Parts<'_> {
    fn take(&self, spool: &Spool, scratch: &Path) -> Result<Made, ForeignError> {
        let path = self.spec.binary.as_deref().unwrap_or(BINARY);
        let binary = self.file(path, "binary", "")?;
        let image = || self.spec.image.clone();
        let failed = |source| ForeignError::Write { image: image(), path: path.to_owned(), source };
        if Kind::of(binary.reader()).map_err(failed)?.is_none() {
            return Err(ForeignError::Kind { image: image(), path: path.to_owned() });
        }
        let place = scratch.join("kernel");
        let written = File::create(&place).and_then(|mut file| io::copy(&mut binary.reader(), &mut file));
        written.map_err(failed)?;
        let microcode = self.spec.ucode.as_deref().filter(|path| is_some(path));
        let microcode = microcode.map(|path| self.file(path, "ucode", "")).transpose()?.cloned();
        Ok(Made { image: place, modules: self.modules(spool)?, microcode })
    }

    fn modules(&self, spool: &Spool) -> Result<Tree, ForeignError> {
        let mut tree = Tree::default();
        let path = self.spec.tar.as_deref().unwrap_or(MODULES);
        if is_some(path) {
            let archive = self.file(path, "tar", ", or give none there for a kernel without modules")?;
            let mut budget = Budget::new(Limits::default());
            let origin = self.tree.resolve(path).and_then(|entry| entry.origin.clone());
            let origin = origin.unwrap_or_else(|| Arc::new(provenance::Origin::own(Material::Kernel)));
            layer::apply(&mut tree, archive.reader(), &origin, spool, &mut budget).map_err(|source| {
                ForeignError::Modules { image: self.spec.image.clone(), path: path.to_owned(), source }
            })?;
        }
        Ok(tree)
    }

    /// A file of the image, through links.
    fn file(&self, path: &str, field: &'static str, remedy: &'static str) -> Result<&Content, ForeignError> {
        match self.tree.resolve(path).map(|entry| &entry.node) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(ForeignError::Missing {
                image: self.spec.image.clone(),
                path: path.to_owned(),
                field,
                remedy,
            }),
        }
    }
}

/// Whether a field of the definition names a file: it may say that there is none.
fn is_some(path: &str) -> bool {
    !path.is_empty() && path != NONE
}

/// What a kernel's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Elf,
    BzImage,
}

impl Kind {
    /// As its first bytes tell; none where it is neither.
    pub(crate) fn of(from: impl Read) -> io::Result<Option<Self>> {
        const LONGEST: u64 = 0x206;
        let mut head = Vec::new();
        from.take(LONGEST).read_to_end(&mut head)?;
        Ok(match head.as_slice() {
            [0x7f, b'E', b'L', b'F', ..] => Some(Self::Elf),
            head if head.ends_with(b"HdrS") && head.len() as u64 == LONGEST => Some(Self::BzImage),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Entry;

    fn bzimage() -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes
    }

    fn modules() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "lib/modules/6.1/x.ko", &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    /// What becomes of an image with these files.
    fn take(files: &[(&str, Vec<u8>)], spec: &str) -> Result<(Vec<u8>, Made), String> {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::below(directory.path()).unwrap();
        let mut tree = Tree::default();
        for (path, bytes) in files {
            tree.put(path, Entry::file(0o644, bytes.as_slice()));
        }
        let spec: KernelSpec = serde_yaml::from_str(&format!("{{image: test/kernel, {spec}}}")).unwrap();
        let made = Parts { spec: &spec, tree: &tree }.take(&spool, directory.path());
        let made = made.map_err(|error| error.to_string())?;
        Ok((std::fs::read(&made.image).unwrap(), made))
    }

    #[test]
    fn a_kernel_comes_with_its_modules_and_its_microcode() {
        let files = [("kernel", bzimage()), ("kernel.tar", modules()), ("u.cpio", b"code".to_vec())];
        let (kernel, made) = take(&files, "ucode: u.cpio").unwrap();
        assert_eq!(kernel, bzimage());
        assert_eq!(made.modules.file("lib/modules/6.1/x.ko"), Some(&Content::from(*b"x")));
        assert_eq!(made.microcode, Some(Content::from(*b"code")));
        let elsewhere = [("boot/vmlinux", b"\x7fELF...".to_vec())];
        for none in ["none", "''"] {
            let spec = format!("binary: boot/vmlinux, tar: {none}, ucode: {none}");
            let (kernel, made) = take(&elsewhere, &spec).unwrap();
            assert_eq!((kernel.as_slice(), made.microcode), (&b"\x7fELF..."[..], None));
            assert_eq!(made.modules, Tree::default());
        }
    }

    #[test]
    fn what_an_image_lacks_is_named_with_its_field() {
        let refused = |files: &[(&str, Vec<u8>)], spec: &str| take(files, spec).map(|_| ()).unwrap_err();
        assert_eq!(refused(&[], ""), "test/kernel has no file kernel; say which it is with kernel.binary");
        let kernel = ("kernel", bzimage());
        assert_eq!(
            refused(std::slice::from_ref(&kernel), ""),
            "test/kernel has no file kernel.tar; say which it is with kernel.tar, or give none there for a kernel \
             without modules"
        );
        assert_eq!(
            refused(std::slice::from_ref(&kernel), "tar: none, ucode: x"),
            "test/kernel has no file x; say which it is with kernel.ucode"
        );
        assert_eq!(
            refused(&[("kernel", b"MZ".to_vec())], "tar: none"),
            "kernel of test/kernel is neither an x86_64 ELF file nor a bzImage, which are what a machine starts"
        );
        assert_eq!(
            refused(&[kernel, ("kernel.tar", vec![1; 512])], ""),
            "kernel.tar of test/kernel cannot be unpacked"
        );
    }

    #[test]
    fn a_kernel_of_our_own_has_no_files_to_name() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let spec: KernelSpec = serde_yaml::from_str("{image: mvm/kernel, tar: x.tar}").unwrap();
        let error =
            Origin::of(&spec, (&layout, &Lock::default()), Architecture::host().unwrap()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "mvm/kernel is a kernel of mvm's own, which is one file; leave out kernel.tar"
        );
        let spec: KernelSpec = serde_yaml::from_str("{image: mvm/kernel, tar: none}").unwrap();
        let origin = Origin::of(&spec, (&layout, &Lock::default()), Architecture::host().unwrap()).unwrap();
        let has = |origin: &Origin| ["CONFIG_EROFS_FS", "CONFIG_EFI_STUB"].map(|option| origin.has(option));
        assert_eq!(has(&origin), [Some(true), Some(false)]);
        let spec: KernelSpec = serde_yaml::from_str("{image: mvm/kernel-efi}").unwrap();
        let origin = Origin::of(&spec, (&layout, &Lock::default()), Architecture::host().unwrap()).unwrap();
        assert_eq!(has(&origin), [Some(true), Some(true)], "what its base has, and its own");
    }
}
