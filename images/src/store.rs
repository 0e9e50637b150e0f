//! Appliances at rest: an OCI image layout with one artifact manifest for each appliance.
//!
//! The manifest's layers are the kernel, the root image and the kernel's command line, in that order, uncompressed, so
//! that a machine starts from the blobs themselves. `index.json` names each by `org.opencontainers.image.ref.name`;
//! the annotation [`INPUTS`] of the manifest holds the key of everything that went in, and a build whose inputs have
//! the same key returns what is there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType};

use crate::kernel;
use crate::layout::{self, Layout, LayoutError};

/// What the manifest says it is.
pub const ARTIFACT_TYPE: &str = "application/vnd.mvm.appliance.v1";
/// The configuration object: the `linuxkit.yml` that was built and what it became, as JSON.
pub const CONFIG_TYPE: &str = "application/vnd.mvm.appliance.config.v1+json";
/// An uncompressed ELF kernel.
pub const KERNEL_TYPE: &str = "application/vnd.mvm.kernel.v1+elf";
/// A compressed kernel, which unpacks itself.
pub const BZIMAGE_TYPE: &str = "application/vnd.mvm.kernel.v1+bzimage";
/// The root image.
pub const ROOT_TYPE: &str = "application/vnd.mvm.root.v1+erofs";
/// The command line, UTF-8, without a final newline.
pub const CMDLINE_TYPE: &str = "application/vnd.mvm.cmdline.v1+text";
/// The manifest's annotation with the key of all inputs.
pub const INPUTS: &str = "mvm.inputs";

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the appliance {reference} in {layout} lacks its {part}; delete {layout} and build it again")]
    Incomplete { reference: String, layout: PathBuf, part: &'static str },
    #[error("cannot describe the appliance")]
    Describe(#[from] oci_spec::OciSpecError),
}

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    /// An uncompressed ELF kernel (`vmlinux`), or a bzImage.
    pub kernel: PathBuf,
    /// The root image, EROFS.
    pub root: PathBuf,
    /// What the definition wants on the kernel's command line; the supervisor adds the machine's own words.
    pub cmdline: String,
    /// The manifest's digest, `sha256:HEX`.
    pub digest: String,
}

/// The parts of an appliance that is to be stored.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) inputs: &'a str,
    pub(crate) config: &'a [u8],
    pub(crate) kernel: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) cmdline: &'a str,
}

/// The appliances of a layout.
#[derive(Debug, Clone)]
pub struct Store(Layout);

impl Store {
    /// Opens the layout in `dir`, making it where it is missing.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self(Layout::open(dir)?))
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0
    }

    /// The appliance of that name, if the layout has it.
    pub fn find(&self, reference: &str) -> Result<Option<Appliance>, StoreError> {
        let Some((descriptor, manifest)) = self.manifest(reference)? else { return Ok(None) };
        self.appliance(reference, &descriptor, &manifest).map(Some)
    }

    /// All that the layout has, by name.
    pub fn list(&self) -> Result<Vec<(String, Appliance)>, StoreError> {
        let index = self.0.index()?;
        let appliances = index.manifests().iter().filter(|each| is_appliance(each));
        let names = appliances.filter_map(layout::name_of);
        let found = names.map(|name| Ok(self.find(name)?.map(|found| (name.to_owned(), found))));
        found.filter_map(Result::transpose).collect()
    }

    /// All images of containers that the layout has, by name, with their digests.
    pub fn images(&self) -> Result<Vec<(String, String)>, StoreError> {
        let index = self.0.index()?;
        let images = index.manifests().iter().filter(|each| !is_appliance(each));
        let named =
            images.filter_map(|each| Some((layout::name_of(each)?.to_owned(), each.digest().to_string())));
        Ok(named.collect())
    }

    /// The appliance of that name, if it was made of these inputs.
    pub(crate) fn find_made_of(
        &self,
        reference: &str,
        inputs: &str,
    ) -> Result<Option<Appliance>, StoreError> {
        let Some((descriptor, manifest)) = self.manifest(reference)? else { return Ok(None) };
        let made_of = manifest.annotations().as_ref().and_then(|all| all.get(INPUTS));
        if made_of.map(String::as_str) != Some(inputs) {
            return Ok(None);
        }
        // A blob that somebody deleted is a reason to build again, not to fail.
        Ok(self.appliance(reference, &descriptor, &manifest).ok())
    }

    /// Stores an appliance under a name, which it takes over from the one before.
    pub(crate) fn put(&self, reference: &str, parts: &Parts<'_>) -> Result<Appliance, StoreError> {
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::from(ARTIFACT_TYPE))
            .config(self.0.add_bytes(CONFIG_TYPE, parts.config)?)
            .layers([
                self.0.add_file(kernel_type(parts.kernel)?, parts.kernel)?,
                self.0.add_file(ROOT_TYPE, parts.root)?,
                self.0.add_bytes(CMDLINE_TYPE, parts.cmdline.as_bytes())?,
            ])
            .annotations(HashMap::from([(INPUTS.to_owned(), parts.inputs.to_owned())]))
            .build()?;
        let mut descriptor =
            self.0.add_bytes(MediaType::ImageManifest.as_ref(), manifest.to_string()?.as_bytes())?;
        descriptor.set_artifact_type(Some(MediaType::from(ARTIFACT_TYPE)));
        let descriptor = self.0.tag(reference, descriptor)?;
        self.appliance(reference, &descriptor, &manifest)
    }

    /// Nothing for a name that is another thing's.
    fn manifest(&self, reference: &str) -> Result<Option<(Descriptor, ImageManifest)>, StoreError> {
        match self.0.find(reference)?.filter(is_appliance) {
            Some(descriptor) if self.0.has(&descriptor) => {
                let manifest = self.0.document(&descriptor)?;
                Ok(Some((descriptor, manifest)))
            }
            _ => Ok(None),
        }
    }

    fn appliance(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        manifest: &ImageManifest,
    ) -> Result<Appliance, StoreError> {
        let part = |media_types: &[&str], part: &'static str| {
            manifest
                .layers()
                .iter()
                .find(|layer| media_types.contains(&layer.media_type().as_ref()))
                .filter(|layer| self.0.has(layer))
                .map(|layer| self.0.blob(layer.digest()))
                .ok_or_else(|| StoreError::Incomplete {
                    reference: reference.to_owned(),
                    layout: self.0.dir().to_owned(),
                    part,
                })
        };
        let cmdline = part(&[CMDLINE_TYPE], "command line")?;
        Ok(Appliance {
            kernel: part(&[KERNEL_TYPE, BZIMAGE_TYPE], "kernel")?,
            root: part(&[ROOT_TYPE], "root image")?,
            cmdline: fs::read_to_string(&cmdline)
                .map_err(|source| StoreError::Read { path: cmdline.clone(), source })?,
            digest: descriptor.digest().to_string(),
        })
    }
}

/// As its first bytes tell: what was compiled or looked through is one of both.
fn kernel_type(path: &Path) -> Result<&'static str, StoreError> {
    let kind = File::open(path).and_then(kernel::Kind::of);
    match kind.map_err(|source| StoreError::Read { path: path.to_owned(), source })? {
        Some(kernel::Kind::BzImage) => Ok(BZIMAGE_TYPE),
        Some(kernel::Kind::Elf) | None => Ok(KERNEL_TYPE),
    }
}

fn is_appliance(descriptor: &Descriptor) -> bool {
    descriptor.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == ARTIFACT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, dir: &Path, inputs: &str, kernel: &[u8]) -> Appliance {
        fs::write(dir.join("k"), kernel).unwrap();
        fs::write(dir.join("r"), b"root").unwrap();
        store
            .put(
                "a:latest",
                &Parts {
                    inputs,
                    config: b"{}",
                    kernel: &dir.join("k"),
                    root: &dir.join("r"),
                    cmdline: "quiet",
                },
            )
            .unwrap()
    }

    #[test]
    fn an_appliance_is_found_by_its_name_and_replaced_under_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        assert_eq!(store.find("a:latest").unwrap(), None);
        let first = put(&store, dir.path(), "one", b"kernel");
        assert_eq!(store.find("a:latest").unwrap(), Some(first.clone()));
        assert_eq!(fs::read(&first.kernel).unwrap(), b"kernel");
        assert_eq!(first.cmdline, "quiet");
        let second = put(&store, dir.path(), "two", b"kernel 2");
        assert_ne!(first.digest, second.digest);
        let reopened = Store::open(&dir.path().join("images")).unwrap();
        assert_eq!(reopened.find("a:latest").unwrap(), Some(second));
        assert_eq!(reopened.0.index().unwrap().manifests().len(), 1);
    }

    #[test]
    fn only_the_same_inputs_spare_a_build() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        let made = put(&store, dir.path(), "one", b"kernel");
        assert_eq!(store.find_made_of("a:latest", "one").unwrap(), Some(made.clone()));
        assert_eq!(store.find_made_of("a:latest", "two").unwrap(), None);
        fs::remove_file(&made.root).unwrap();
        assert_eq!(store.find_made_of("a:latest", "one").unwrap(), None);
        let error = store.find("a:latest").unwrap_err().to_string();
        assert!(error.starts_with("the appliance a:latest in "), "{error}");
        assert!(error.contains("lacks its root image; delete "), "{error}");
        fs::write(&made.root, b"ro").unwrap();
        assert_eq!(store.find_made_of("a:latest", "one").unwrap(), None);
        assert_eq!(store.find("a:latest").unwrap_err().to_string(), error);
        assert_eq!(put(&store, dir.path(), "one", b"kernel"), made);
        assert_eq!(fs::read(&made.root).unwrap(), b"root");
    }
}
