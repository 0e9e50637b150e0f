//! Appliances at rest: an OCI image layout with one artifact manifest for each appliance.
//!
//! The manifest's layers are the kernel, the root image, the kernel's command line, where all of the root comes from, the
//! bill of materials, and the part of the lock that it was made with, in that order, uncompressed, so that a machine starts
//! from the blobs themselves. `index.json`
//! names each by `org.opencontainers.image.ref.name`; the annotation [`INPUTS`] of the manifest holds the key of everything
//! that went in, and a build whose inputs have the same key returns what is there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType};

use crate::architecture::{Architecture, UnknownArchitecture};
use crate::kernel;
use crate::layout::{self, Layout, LayoutError};
use crate::provenance::{Provenance, ProvenanceError};
use crate::signature::{self, Keys, SignatureError};
use crate::source::Source;

/// What the manifest says it is.
pub const ARTIFACT_TYPE: &str = "application/vnd.mvm.appliance.v1";
/// The configuration object: the `linuxkit.yml` that was built and what it became, as JSON.
pub const CONFIG_TYPE: &str = "application/vnd.mvm.appliance.config.v1+json";
/// An uncompressed ELF kernel.
pub const KERNEL_TYPE: &str = "application/vnd.mvm.kernel.v1+elf";
/// A compressed kernel, which unpacks itself.
pub const BZIMAGE_TYPE: &str = "application/vnd.mvm.kernel.v1+bzimage";
/// No record of origins and no bill of materials is longer: that of mvm's own takes some hundred KiB.
const LONGEST_RECORD: u64 = 256 << 20;
/// What a kernel can be.
const KERNEL_TYPES: [&str; 2] = [KERNEL_TYPE, BZIMAGE_TYPE];
/// The root image.
pub const ROOT_TYPE: &str = "application/vnd.mvm.root.v1+erofs";
/// The command line, UTF-8, without a final newline.
pub const CMDLINE_TYPE: &str = "application/vnd.mvm.cmdline.v1+text";
/// Where everything in the root comes from: [`Provenance`].
pub const PROVENANCE_TYPE: &str = "application/vnd.mvm.provenance.v1+json";
/// The bill of materials, a document of SPDX 2.3.
pub const SBOM_TYPE: &str = "application/spdx+json";
/// What it was made with: a `linuxkit.lock` that names nothing else.
pub const LOCK_TYPE: &str = "application/vnd.mvm.lock.v1+yaml";
/// The manifest's annotation with the key of all inputs.
pub const INPUTS: &str = "mvm.inputs";
/// That with the processor's architecture, as OCI names it.
pub const ARCHITECTURE: &str = "mvm.architecture";
/// The index's annotation of what was not made here.
const FOREIGN: &str = "mvm.foreign";
/// No command line is longer: Linux takes 2048 bytes on x86_64 and aarch64 (`COMMAND_LINE_SIZE`).
const LONGEST_CMDLINE: u64 = 2048;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the appliance {reference} is not trusted")]
    Signature { reference: String, source: SignatureError },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the command line of the appliance {reference} cannot be read")]
    Cmdline { reference: String, source: io::Error },
    #[error("the appliance {reference} is for {found}, and this machine is {wanted}")]
    Architecture { reference: String, found: String, wanted: &'static str },
    #[error(transparent)]
    Host(#[from] UnknownArchitecture),
    #[error("the appliance {reference} in {layout} lacks its {part}; delete {layout} and build it again")]
    Incomplete { reference: String, layout: PathBuf, part: &'static str },
    #[error("there is no appliance {0}; `mvm image ls` shows which there are, `mvm image build` makes one")]
    Missing(String),
    #[error("the appliance {reference} has no {part}: an older mvm made it; build it again")]
    Older { reference: String, part: &'static str },
    #[error("where the appliance {reference} comes from cannot be told")]
    Provenance { reference: String, source: ProvenanceError },
    #[error("cannot describe the appliance")]
    Describe(#[from] oci_spec::OciSpecError),
    #[error("cannot write the appliance's manifest")]
    Write(#[from] serde_json::Error),
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
    /// Whether it was not made here, but came from a registry or a file.
    pub is_foreign: bool,
}

/// The appliances of a layout.
#[derive(Debug, Default)]
pub struct Listed {
    /// By name.
    pub whole: Vec<(String, Appliance)>,
    /// What is wrong with the others.
    pub broken: Vec<StoreError>,
}

/// The parts of an appliance that is to be stored.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) inputs: &'a str,
    pub(crate) config: &'a [u8],
    pub(crate) kernel: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) cmdline: &'a str,
    pub(crate) provenance: &'a Path,
    pub(crate) sbom: &'a [u8],
    pub(crate) lock: &'a str,
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

    /// Which of these keys has signed an appliance that was found by that name.
    pub fn signed_by(
        &self,
        reference: &str,
        appliance: &Appliance,
        keys: &Keys,
    ) -> Result<String, StoreError> {
        let missing = || StoreError::Missing(reference.to_owned());
        let digest = appliance.digest.parse().map_err(|_| missing())?;
        let manifest = self.0.find_digest(&digest)?.ok_or_else(missing)?;
        signature::check(&self.0, &manifest, keys)
            .map_err(|source| StoreError::Signature { reference: reference.to_owned(), source })
    }

    /// The appliance of that name, if the layout has it.
    pub fn find(&self, reference: &str) -> Result<Option<Appliance>, StoreError> {
        let Some((descriptor, manifest)) = self.manifest(reference)? else { return Ok(None) };
        self.appliance(reference, &descriptor, &manifest).map(Some)
    }

    /// What an appliance was made of, to make it again.
    pub fn source(&self, reference: &str) -> Result<Source, StoreError> {
        let manifest = self.manifest(reference)?;
        let (_, manifest) = manifest.ok_or_else(|| StoreError::Missing(reference.to_owned()))?;
        let definition: serde_json::Value = self.0.document(manifest.config())?;
        let lock = self.text(reference, LOCK_TYPE, "lock, which making it again without its files takes")?;
        let lock = String::from_utf8_lossy(&lock).into_owned();
        Ok(Source::Kept { appliance: reference.to_owned(), definition: definition.to_string(), lock })
    }

    /// Where everything in the root of an appliance comes from.
    pub fn provenance(&self, reference: &str) -> Result<Provenance, StoreError> {
        let layer = self.part(reference, PROVENANCE_TYPE, "record of where its files come from")?;
        let failed = |source| StoreError::Provenance { reference: reference.to_owned(), source };
        Provenance::read(self.0.read(&layer)?.take(LONGEST_RECORD)).map_err(failed)
    }

    /// The bill of materials of an appliance, as it is kept.
    pub fn sbom(&self, reference: &str) -> Result<Vec<u8>, StoreError> {
        self.text(reference, SBOM_TYPE, "bill of materials")
    }

    /// One of the layers that are read as a whole.
    fn text(&self, reference: &str, media_type: &str, part: &'static str) -> Result<Vec<u8>, StoreError> {
        let layer = self.part(reference, media_type, part)?;
        let mut bytes = Vec::new();
        let read = self.0.read(&layer)?.take(LONGEST_RECORD).read_to_end(&mut bytes);
        read.map_err(|source| StoreError::Read { path: self.0.blob(layer.digest()), source })?;
        Ok(bytes)
    }

    /// All that the layout has, by name; one that is broken hides no other.
    pub fn list(&self) -> Result<Listed, StoreError> {
        let index = self.0.index()?;
        let mut listed = Listed::default();
        let appliances = index.manifests().iter().filter(|each| is_appliance(each));
        for name in appliances.filter_map(layout::name_of) {
            match self.find(name) {
                Ok(found) => listed.whole.extend(found.map(|found| (name.to_owned(), found))),
                Err(error) => listed.broken.push(error),
            }
        }
        Ok(listed)
    }

    /// All images of containers that the layout has, by name, with their digests.
    pub fn images(&self) -> Result<Vec<(String, String)>, StoreError> {
        let index = self.0.index()?;
        let images =
            index.manifests().iter().filter(|each| !is_appliance(each) && !signature::is_of_signatures(each));
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
        // A blob that somebody deleted is a reason to build again, not to fail.
        let is_whole = manifest.layers().iter().all(|layer| self.0.has(layer));
        // What came from elsewhere may say of itself what it likes.
        if is_foreign(&descriptor) || made_of.map(String::as_str) != Some(inputs) || !is_whole {
            return Ok(None);
        }
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
                self.0.add_file(PROVENANCE_TYPE, parts.provenance)?,
                self.0.add_bytes(SBOM_TYPE, parts.sbom)?,
                self.0.add_bytes(LOCK_TYPE, parts.lock.as_bytes())?,
            ])
            .annotations(HashMap::from([
                (INPUTS.to_owned(), parts.inputs.to_owned()),
                (ARCHITECTURE.to_owned(), Architecture::host()?.debian.to_owned()),
            ]))
            .build()?;
        // Through a value, which sorts them: the annotations lie in a hash table, whose order is another each time.
        let manifest_bytes = serde_json::to_value(&manifest)?.to_string();
        let descriptor = self.0.add_bytes(MediaType::ImageManifest.as_ref(), manifest_bytes.as_bytes())?;
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

    /// One layer of the appliance of that name.
    fn part(&self, reference: &str, media_type: &str, part: &'static str) -> Result<Descriptor, StoreError> {
        let manifest = self.manifest(reference)?;
        let (_, manifest) = manifest.ok_or_else(|| StoreError::Missing(reference.to_owned()))?;
        if !manifest.layers().iter().any(|layer| layer.media_type().as_ref() == media_type) {
            return Err(StoreError::Older { reference: reference.to_owned(), part });
        }
        self.layer(reference, &manifest, &[media_type], part).cloned()
    }

    fn layer<'a>(
        &self,
        reference: &str,
        manifest: &'a ImageManifest,
        media_types: &[&str],
        part: &'static str,
    ) -> Result<&'a Descriptor, StoreError> {
        let layers = manifest.layers().iter();
        let mut layers = layers.filter(|layer| media_types.contains(&layer.media_type().as_ref()));
        layers.find(|layer| self.0.has(layer)).ok_or_else(|| StoreError::Incomplete {
            reference: reference.to_owned(),
            layout: self.0.dir().to_owned(),
            part,
        })
    }

    fn appliance(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        manifest: &ImageManifest,
    ) -> Result<Appliance, StoreError> {
        let wanted = Architecture::host()?.debian;
        let annotations = manifest.annotations().as_ref();
        // One that does not say is from before there was a second.
        if let Some(found) = annotations.and_then(|all| all.get(ARCHITECTURE)).filter(|name| *name != wanted)
        {
            let (reference, found) = (reference.to_owned(), found.clone());
            return Err(StoreError::Architecture { reference, found, wanted });
        }
        let part = |types: &[&str], part: &'static str| self.layer(reference, manifest, types, part);
        let mut cmdline = String::new();
        let words = part(&[CMDLINE_TYPE], "command line")?;
        let unreadable = |source| StoreError::Cmdline { reference: reference.to_owned(), source };
        if words.size() > LONGEST_CMDLINE {
            let long = format!("it has {} bytes, and Linux takes {LONGEST_CMDLINE}", words.size());
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, long)));
        }
        let mut bounded = self.0.read(words)?.take(LONGEST_CMDLINE.saturating_add(1));
        bounded.read_to_string(&mut cmdline).map_err(unreadable)?;
        Ok(Appliance {
            kernel: self.0.blob(part(&KERNEL_TYPES, "kernel")?.digest()),
            root: self.0.blob(part(&[ROOT_TYPE], "root image")?.digest()),
            cmdline,
            digest: descriptor.digest().to_string(),
            is_foreign: is_foreign(descriptor),
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

/// What is known of something that comes from elsewhere: nothing that it says of itself.
pub(crate) fn foreign(mut descriptor: Descriptor) -> Descriptor {
    descriptor.set_annotations(Some(HashMap::from([(FOREIGN.to_owned(), "true".to_owned())])));
    descriptor
}

fn is_foreign(descriptor: &Descriptor) -> bool {
    descriptor.annotations().as_ref().is_some_and(|all| all.contains_key(FOREIGN))
}

pub(crate) fn is_appliance(descriptor: &Descriptor) -> bool {
    descriptor.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == ARTIFACT_TYPE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(store: &Store, dir: &Path, inputs: &str, kernel: &[u8]) -> Appliance {
        fs::write(dir.join("k"), kernel).unwrap();
        fs::write(dir.join("r"), b"root").unwrap();
        fs::write(dir.join("p"), br#"{"version":1,"origins":[],"containers":[],"files":{}}"#).unwrap();
        let parts = Parts {
            inputs,
            config: b"{}",
            kernel: &dir.join("k"),
            root: &dir.join("r"),
            cmdline: "quiet",
            provenance: &dir.join("p"),
            sbom: b"{}\n",
            lock: "version: 1\n",
        };
        store.put("a:latest", &parts).unwrap()
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
    fn where_an_appliance_comes_from_is_kept_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        let error = store.provenance("a:latest").unwrap_err().to_string();
        assert!(error.starts_with("there is no appliance a:latest; "), "{error}");
        put(&store, dir.path(), "one", b"kernel");
        let stored = store.provenance("a:latest").unwrap();
        assert_eq!(
            stored.explain("x").unwrap_err().to_string(),
            "there is no x in the appliance; nothing is in it"
        );
        let error = store.part("a:latest", "x/y", "soul").unwrap_err().to_string();
        assert_eq!(error, "the appliance a:latest has no soul: an older mvm made it; build it again");
        let layer = store.part("a:latest", PROVENANCE_TYPE, "record").unwrap();
        fs::remove_file(store.0.blob(layer.digest())).unwrap();
        let error = store.provenance("a:latest").unwrap_err().to_string();
        assert!(error.contains("lacks its record of where its files come from; delete"), "{error}");
        assert!(store.find("a:latest").unwrap().is_some(), "it boots without");
        assert_eq!(store.find_made_of("a:latest", "one").unwrap(), None, "and is made again");
        assert_eq!(store.sbom("a:latest").unwrap(), b"{}\n");
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
