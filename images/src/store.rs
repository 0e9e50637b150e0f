//! Appliances at rest: an OCI image layout (image-spec 1.1, "OCI Image Layout Specification") with one artifact
//! manifest for each appliance.
//!
//! The manifest's layers are the kernel, the root image and the kernel's command line, in that order, uncompressed, so
//! that a machine starts from the blobs themselves. `index.json` names each by `org.opencontainers.image.ref.name`;
//! the annotation [`INPUTS`] of the manifest holds the key of everything that went in, and a build whose inputs have
//! the same key returns what is there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, DescriptorBuilder, Digest, ImageIndex, ImageIndexBuilder, ImageManifest,
    ImageManifestBuilder, MediaType, OciLayoutBuilder,
};
use sha2::{Digest as _, Sha256};

use crate::files;

/// What the manifest says it is.
pub const ARTIFACT_TYPE: &str = "application/vnd.mvm.appliance.v1";
/// The configuration object: the `linuxkit.yml` that was built and what it became, as JSON.
pub const CONFIG_TYPE: &str = "application/vnd.mvm.appliance.config.v1+json";
/// An uncompressed ELF kernel.
pub const KERNEL_TYPE: &str = "application/vnd.mvm.kernel.v1+elf";
/// The root image.
pub const ROOT_TYPE: &str = "application/vnd.mvm.root.v1+erofs";
/// The command line, UTF-8, without a final newline.
pub const CMDLINE_TYPE: &str = "application/vnd.mvm.cmdline.v1+text";
/// The manifest's annotation with the key of all inputs.
pub const INPUTS: &str = "mvm.inputs";

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not what an image layout has there; delete {layout} and build the appliance again")]
    Malformed { path: PathBuf, layout: PathBuf, source: oci_spec::OciSpecError },
    #[error("the appliance {reference} in {layout} lacks its {part}; delete {layout} and build it again")]
    Incomplete { reference: String, layout: PathBuf, part: &'static str },
    #[error("cannot describe the appliance")]
    Describe(#[from] oci_spec::OciSpecError),
}

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    /// An uncompressed ELF kernel (`vmlinux`).
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

/// An OCI image layout on disk.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the layout in `dir`, making it where it is missing.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(io_error("create", &blobs))?;
        let store = Self { dir: dir.to_owned() };
        let marker = dir.join("oci-layout");
        if !marker.exists() {
            let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
            write(&marker, layout.to_string()?.as_bytes())?;
        }
        if !store.index_path().exists() {
            store.write_index(&ImageIndexBuilder::default().schema_version(2_u32).manifests([]).build()?)?;
        }
        Ok(store)
    }

    /// The appliance of that name, if the layout has it.
    pub fn find(&self, reference: &str) -> Result<Option<Appliance>, StoreError> {
        let Some((descriptor, manifest)) = self.manifest(reference)? else { return Ok(None) };
        self.appliance(reference, &descriptor, &manifest).map(Some)
    }

    /// All that the layout has, by name.
    pub fn list(&self) -> Result<Vec<(String, Appliance)>, StoreError> {
        let index = self.index()?;
        let names = index.manifests().iter().filter_map(name_of);
        let found = names.map(|name| Ok(self.find(name)?.map(|found| (name.to_owned(), found))));
        found.filter_map(Result::transpose).collect()
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
            .config(self.add_bytes(CONFIG_TYPE, parts.config)?)
            .layers([
                self.add_file(KERNEL_TYPE, parts.kernel)?,
                self.add_file(ROOT_TYPE, parts.root)?,
                self.add_bytes(CMDLINE_TYPE, parts.cmdline.as_bytes())?,
            ])
            .annotations(HashMap::from([(INPUTS.to_owned(), parts.inputs.to_owned())]))
            .build()?;
        let mut descriptor =
            self.add_bytes(MediaType::ImageManifest.as_ref(), manifest.to_string()?.as_bytes())?;
        descriptor
            .set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), reference.to_owned())])));
        descriptor.set_artifact_type(Some(MediaType::from(ARTIFACT_TYPE)));
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|other| name_of(other) != Some(reference));
        manifests.push(descriptor.clone());
        manifests.sort_by_key(|each| name_of(each).map(str::to_owned));
        index.set_manifests(manifests);
        self.write_index(&index)?;
        self.appliance(reference, &descriptor, &manifest)
    }

    fn manifest(&self, reference: &str) -> Result<Option<(Descriptor, ImageManifest)>, StoreError> {
        let index = self.index()?;
        let Some(descriptor) = index.manifests().iter().find(|each| name_of(each) == Some(reference)) else {
            return Ok(None);
        };
        let path = self.blob(descriptor.digest());
        if !path.exists() {
            return Ok(None);
        }
        let manifest = ImageManifest::from_file(&path).map_err(|source| self.malformed(&path, source))?;
        Ok(Some((descriptor.clone(), manifest)))
    }

    fn appliance(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        manifest: &ImageManifest,
    ) -> Result<Appliance, StoreError> {
        let part = |media_type: &str, part: &'static str| {
            manifest
                .layers()
                .iter()
                .find(|layer| layer.media_type().as_ref() == media_type)
                .map(|layer| (self.blob(layer.digest()), layer.size()))
                // A disk that was full, or a copy that was broken off, leaves a part of a blob.
                .filter(|(path, size)| fs::metadata(path).is_ok_and(|found| found.len() == *size))
                .map(|(path, _)| path)
                .ok_or_else(|| StoreError::Incomplete {
                    reference: reference.to_owned(),
                    layout: self.dir.clone(),
                    part,
                })
        };
        let cmdline = part(CMDLINE_TYPE, "command line")?;
        Ok(Appliance {
            kernel: part(KERNEL_TYPE, "kernel")?,
            root: part(ROOT_TYPE, "root image")?,
            cmdline: fs::read_to_string(&cmdline).map_err(io_error("read", &cmdline))?,
            digest: descriptor.digest().to_string(),
        })
    }

    fn add_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let digest = hex::encode(Sha256::digest(bytes));
        let path = self.dir.join("blobs/sha256").join(&digest);
        write(&path, bytes)?;
        describe(media_type, &digest, bytes.len() as u64)
    }

    fn add_file(&self, media_type: &str, source: &Path) -> Result<Descriptor, StoreError> {
        let (digest, size) = hash_file(source)?;
        let path = self.dir.join("blobs/sha256").join(&digest);
        if fs::metadata(&path).map(|known| known.len()).ok() != Some(size) {
            files::copy_atomically(source, &path).map_err(io_error("write", &path))?;
        }
        describe(media_type, &digest, size)
    }

    fn index(&self) -> Result<ImageIndex, StoreError> {
        let path = self.index_path();
        ImageIndex::from_file(&path).map_err(|source| self.malformed(&path, source))
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), StoreError> {
        write(&self.index_path(), index.to_string()?.as_bytes())
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
    }

    fn malformed(&self, path: &Path, source: oci_spec::OciSpecError) -> StoreError {
        StoreError::Malformed { path: path.to_owned(), layout: self.dir.clone(), source }
    }
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(ANNOTATION_REF_NAME).map(String::as_str)
}

fn describe(media_type: &str, digest: &str, size: u64) -> Result<Descriptor, StoreError> {
    let digest = format!("sha256:{digest}").parse::<Digest>()?;
    Ok(DescriptorBuilder::default().media_type(media_type).digest(digest).size(size).build()?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    files::write_atomically(path, bytes).map_err(io_error("write", path))
}

fn hash_file(path: &Path) -> Result<(String, u64), StoreError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0_u64;
    loop {
        let count = file.read(&mut buffer).map_err(io_error("read", path))?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        size = size.saturating_add(count as u64);
    }
    Ok((hex::encode(hash.finalize()), size))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
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
        assert_eq!(reopened.index().unwrap().manifests().len(), 1);
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
