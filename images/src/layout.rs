//! An OCI image layout on disk (image-spec 1.1, "OCI Image Layout Specification"): contents by their digests, and an index
//! that gives some of them names.

mod arrival;
pub mod graph;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::distribution::Reference;
use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, DescriptorBuilder, Digest, DigestAlgorithm, ImageIndex,
    ImageIndexBuilder, ImageManifest, MediaType, OciLayoutBuilder,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

pub use self::arrival::Arrival;
use crate::files;
use crate::store;

/// No manifest and no configuration is longer; a registry takes 4 MiB.
const LONGEST_DOCUMENT: u64 = 4 << 20;

/// What containerd and BuildKit take the name of an image from, where it is not a registry's.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";

/// Why a layout could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not what an image layout has there; delete {layout} to begin anew")]
    Malformed { path: PathBuf, layout: PathBuf, source: oci_spec::OciSpecError },
    #[error("{path} is damaged; delete it")]
    Damaged { path: PathBuf, source: io::Error },
    #[error("{0} is missing")]
    Missing(Digest),
    #[error("{0} has more bytes than it can have")]
    Long(Digest),
    #[error("indexes inside one another, without end")]
    Depth,
    #[error("{0} is no such document")]
    Document(Digest, #[source] serde_json::Error),
    #[error("digests of the algorithm {0} are not supported; only sha256 is")]
    Algorithm(String),
    #[error("what came as {expected} is sha256:{found}, and nothing of it was kept")]
    Wrong { expected: String, found: String },
    #[error(transparent)]
    Describe(#[from] oci_spec::OciSpecError),
}

/// A layout, which any number of processes may add to.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Opens the layout in `dir`, making it where it is missing.
    pub fn open(dir: &Path) -> Result<Self, LayoutError> {
        let layout = Self { dir: dir.to_owned() };
        let contents = layout.contents();
        fs::create_dir_all(&contents).map_err(io_error("create", &contents))?;
        let marker = dir.join(MARKER);
        if !marker.exists() {
            write(&marker, marker_text()?.as_bytes())?;
        }
        if !layout.index_path().exists() {
            layout.write_index(&ImageIndexBuilder::default().schema_version(2_u32).manifests([]).build()?)?;
        }
        Ok(layout)
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn index(&self) -> Result<ImageIndex, LayoutError> {
        let path = self.index_path();
        ImageIndex::from_file(&path).map_err(|source| self.malformed(&path, source))
    }

    /// What a name stands for: as it is written, or with what was left out filled in, as a pull names things.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>, LayoutError> {
        let index = self.index()?;
        let named = |name: &str| index.manifests().iter().find(|each| name_of(each) == Some(name)).cloned();
        Ok(named(name).or_else(|| named(&name.parse::<Reference>().ok()?.whole())))
    }

    /// What is there, if it is one thing.
    pub fn only(&self) -> Result<Option<Descriptor>, LayoutError> {
        let index = self.index()?;
        Ok(match index.manifests().as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        })
    }

    /// Something that has a name, by its digest.
    pub(crate) fn find_digest(&self, digest: &Digest) -> Result<Option<Descriptor>, LayoutError> {
        Ok(self.index()?.manifests().iter().find(|each| each.digest() == digest).cloned())
    }

    /// Gives a name to something, which takes it over from what had it before; the descriptor as the index has it then. As in
    /// BuildKit's layouts, where a name is a tag, images whose whole names differ may have the same.
    pub fn tag(&self, name: &str, mut descriptor: Descriptor) -> Result<Descriptor, LayoutError> {
        let mut annotations = descriptor.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_owned());
        descriptor.set_annotations(Some(annotations));
        let descriptor = self.with_its_kind(descriptor)?;
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        let whole = |of: &Descriptor| of.annotations().as_ref()?.get(CONTAINERD_NAME).cloned();
        let differ = |other: &Descriptor| whole(other).zip(whole(&descriptor)).is_some_and(|(a, b)| a != b);
        manifests.retain(|other| name_of(other) != Some(name) || differ(other));
        manifests.push(descriptor.clone());
        manifests.sort_by_key(|each| name_of(each).map(str::to_owned));
        index.set_manifests(manifests);
        self.write_index(&index)?;
        Ok(descriptor)
    }

    /// Whether it is something that a machine can boot.
    pub fn is_appliance(&self, descriptor: &Descriptor) -> Result<bool, LayoutError> {
        Ok(store::is_appliance(&self.with_its_kind(descriptor.clone())?))
    }

    /// Takes a name away; false where there is none such, as it is written.
    pub(crate) fn untag(&self, name: &str) -> Result<bool, LayoutError> {
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        let before = manifests.len();
        manifests.retain(|each| name_of(each) != Some(name));
        let is_gone = manifests.len() < before;
        index.set_manifests(manifests);
        self.write_index(&index)?;
        Ok(is_gone)
    }

    /// A descriptor that says what kind of artifact its manifest is, which not all tools write into an index.
    pub(crate) fn with_its_kind(&self, mut descriptor: Descriptor) -> Result<Descriptor, LayoutError> {
        if graph::is_manifest(&descriptor) {
            let manifest: ImageManifest = self.document(&descriptor)?;
            descriptor.set_artifact_type(manifest.artifact_type().clone());
        }
        Ok(descriptor)
    }

    /// Where the content of a digest lies, if it is there.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
    }

    /// Where all contents lie.
    pub(crate) fn contents(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    /// Whether all of a content is there, by its length: a disk that was full, or a copy that was broken off, leaves a part.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        self.has_bytes(descriptor.digest(), descriptor.size())
    }

    pub(crate) fn has_bytes(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|found| found.len() == size)
    }

    /// A content; whoever reads it to its end gets an error there if it is not what its digest says.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Verified<File>, LayoutError> {
        let digest = descriptor.digest();
        let path = self.blob(digest);
        match File::open(&path) {
            Ok(file) => Verified::new(file, digest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(LayoutError::Missing(digest.clone()))
            }
            Err(source) => Err(LayoutError::Io { action: "read", path, source }),
        }
    }

    /// A manifest, an index, a configuration.
    pub fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, LayoutError> {
        let digest = descriptor.digest();
        if descriptor.size() > LONGEST_DOCUMENT {
            return Err(LayoutError::Long(digest.clone()));
        }
        let mut bytes = Vec::new();
        let mut from = self.read(descriptor)?.take(LONGEST_DOCUMENT.saturating_add(1));
        from.read_to_end(&mut bytes).map_err(|source| {
            let path = self.blob(digest);
            match source.kind() {
                io::ErrorKind::InvalidData => LayoutError::Damaged { path, source },
                _ => LayoutError::Io { action: "read", path, source },
            }
        })?;
        if bytes.len() as u64 > LONGEST_DOCUMENT {
            return Err(LayoutError::Long(digest.clone()));
        }
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Document(digest.clone(), source))
    }

    pub fn add_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, LayoutError> {
        let descriptor = described(media_type, bytes)?;
        write(&self.blob(descriptor.digest()), bytes)?;
        Ok(descriptor)
    }

    pub(crate) fn add_file(&self, media_type: &str, source: &Path) -> Result<Descriptor, LayoutError> {
        let size = fs::metadata(source).map_err(io_error("read", source))?.len();
        let digest = files::sha256(source).map_err(io_error("read", source))?;
        let descriptor = describe(media_type, &digest, size)?;
        // One that is there and damaged is made good.
        let path = self.blob(descriptor.digest());
        if !self.has(&descriptor) || files::sha256(&path).map_err(io_error("read", &path))? != digest {
            files::copy_atomically(source, &path).map_err(io_error("write", &path))?;
        }
        Ok(descriptor)
    }

    /// Takes over what is read, if it is what its digest says; else nothing of it is left.
    pub(crate) fn add(&self, digest: &Digest, from: impl Read) -> Result<(), LayoutError> {
        let path = self.blob(digest);
        let mut from = Verified::new(from, digest)?;
        files::make_atomically(&path, |file| io::copy(&mut from, file).map(drop))
            .map_err(io_error("write", &path))
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), LayoutError> {
        write(&self.index_path(), index.to_string()?.as_bytes())
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join(INDEX)
    }

    fn malformed(&self, path: &Path, source: oci_spec::OciSpecError) -> LayoutError {
        LayoutError::Malformed { path: path.to_owned(), layout: self.dir.clone(), source }
    }
}

/// The name that the index gives it.
pub(crate) fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(ANNOTATION_REF_NAME).map(String::as_str)
}

/// The documents of a layout of these images: what they are called, and what is in them.
pub(crate) fn documents(images: Vec<Descriptor>) -> Result<[(&'static str, String); 2], LayoutError> {
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(images)
        .build()?;
    // By way of a value, whose keys are sorted: an image may have several annotations, whose order is another each time.
    let index = serde_json::to_value(&index).map_err(oci_spec::OciSpecError::from)?.to_string();
    Ok([(MARKER, marker_text()?), (INDEX, index)])
}

fn marker_text() -> Result<String, LayoutError> {
    Ok(OciLayoutBuilder::default().image_layout_version("1.0.0").build()?.to_string()?)
}

/// How others name a content.
pub(crate) fn described(media_type: &str, bytes: &[u8]) -> Result<Descriptor, LayoutError> {
    describe(media_type, &hex::encode(Sha256::digest(bytes)), bytes.len() as u64)
}

fn describe(media_type: &str, digest: &str, size: u64) -> Result<Descriptor, LayoutError> {
    let digest = format!("sha256:{digest}").parse::<Digest>()?;
    Ok(DescriptorBuilder::default().media_type(media_type).digest(digest).size(size).build()?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    files::write_atomically(path, bytes).map_err(io_error("write", path))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LayoutError + 'a {
    move |source| LayoutError::Io { action, path: path.to_owned(), source }
}

/// A content on its way, held against its digest at its end.
#[derive(Debug)]
pub struct Verified<R> {
    from: R,
    expected: String,
    hash: Sha256,
}

impl<R: Read> Verified<R> {
    fn new(from: R, digest: &Digest) -> Result<Self, LayoutError> {
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            return Err(LayoutError::Algorithm(digest.algorithm().to_string()));
        }
        Ok(Self { from, expected: digest.digest().to_owned(), hash: Sha256::new() })
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        if count == 0 && !buffer.is_empty() {
            let found = hex::encode(self.hash.clone().finalize());
            if found != self.expected {
                let message = format!("its digest is sha256:{found}, and not sha256:{}", self.expected);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_thing_s_and_a_tag_that_of_images_with_other_names() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let content = |text: &str, whole: Option<&str>| {
            let mut content = layout.add_bytes("a/b", text.as_bytes()).unwrap();
            content
                .set_annotations(whole.map(|whole| [(CONTAINERD_NAME.to_owned(), whole.to_owned())].into()));
            content
        };
        for (text, whole) in [("old", Some("h/a:1")), ("new", Some("h/a:1")), ("other", Some("h/b:1"))] {
            layout.tag("1", content(text, whole)).unwrap();
        }
        let all = layout.index().unwrap().manifests().clone();
        let digests: Vec<_> = all.iter().map(|each| each.digest().to_string()).collect();
        assert_eq!(digests, ["new", "other"].map(|text| content(text, None).digest().to_string()));
        layout.tag("1", content("plain", None)).unwrap();
        assert_eq!(layout.index().unwrap().manifests().len(), 1, "one without a whole name is the only one");
    }
}
