//! Images from files: an OCI layout as a directory, or as an archive, which `docker save` writes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, ImageIndex, ImageManifest, MediaType};

use super::{DOCKER_LIST, DOCKER_MANIFEST};
use crate::layout::{Layout, LayoutError, name_of};

/// Why an image cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{0} holds no OCI image layout: it has no index.json")]
    NoLayout(PathBuf),
    #[error("the index.json of {path} cannot be read")]
    Index { path: PathBuf, source: oci_spec::OciSpecError },
    #[error("{0} holds {1} images without a name; give one with --name")]
    Nameless(PathBuf, usize),
    #[error("{path} lacks a part of {name}")]
    Incomplete { path: PathBuf, name: String, source: LayoutError },
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub name: String,
    pub digest: String,
}

/// Longer than any index.
const LONGEST_INDEX: u64 = 4 << 20;

/// Takes over all images of a file or directory that have names, or the one that it has under another name.
pub fn import(layout: &Path, from: &Path, name: Option<&str>) -> Result<Vec<Imported>, ImportError> {
    let layout = Layout::open(layout)?;
    let read = |source| ImportError::Read { path: from.to_owned(), source };
    let index = if fs::metadata(from).map_err(read)?.is_dir() {
        let index = File::open(from.join("index.json")).ok();
        let index = index.map(bounded).transpose().map_err(read)?;
        let parsed = parsed(from, index)?;
        for each in parsed.manifests() {
            copy(from, &layout, each, 0)?;
        }
        parsed
    } else {
        parsed(from, unpack(from, &layout)?)?
    };
    let mut named: Vec<_> = index.manifests().iter().map(|each| (name_of(each), each)).collect();
    if let Some(name) = name {
        let [only] = named.as_mut_slice() else {
            return Err(ImportError::Nameless(from.to_owned(), named.len()));
        };
        only.0 = Some(name);
    }
    let mut imported = Vec::new();
    for (name, descriptor) in &named {
        let Some(name) = name else { return Err(ImportError::Nameless(from.to_owned(), named.len())) };
        is_whole(&layout, descriptor, 0).map_err(|source| ImportError::Incomplete {
            path: from.to_owned(),
            name: (*name).to_owned(),
            source,
        })?;
        imported.push(Imported { name: (*name).to_owned(), digest: descriptor.digest().to_string() });
    }
    // Names are given when all is there.
    for (name, descriptor) in named {
        layout.tag(name.unwrap_or_default(), descriptor.clone())?;
    }
    Ok(imported)
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LONGEST_INDEX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parsed(from: &Path, index: Option<Vec<u8>>) -> Result<ImageIndex, ImportError> {
    let index = index.ok_or_else(|| ImportError::NoLayout(from.to_owned()))?;
    ImageIndex::from_reader(index.as_slice())
        .map_err(|source| ImportError::Index { path: from.to_owned(), source })
}

/// Takes the contents out of an archive, each as it comes; what its index says.
fn unpack(from: &Path, layout: &Layout) -> Result<Option<Vec<u8>>, ImportError> {
    let read = |source| ImportError::Read { path: from.to_owned(), source };
    let mut archive = tar::Archive::new(File::open(from).map_err(read)?);
    let mut index = None;
    for entry in archive.entries().map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(read)?.to_string_lossy().into_owned();
        match path.strip_prefix("./").unwrap_or(&path) {
            "index.json" => index = Some(bounded(entry).map_err(read)?),
            path => {
                let digest =
                    path.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
                if let Some(digest) = digest {
                    layout.add(&digest, entry)?;
                }
            }
        }
    }
    Ok(index)
}

/// Takes over a content of a directory, and what it names.
fn copy(from: &Path, layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<(), ImportError> {
    let digest: &Digest = descriptor.digest();
    if !layout.has(descriptor) {
        let path = from.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest());
        let file = File::open(&path).map_err(|source| ImportError::Read { path, source })?;
        layout.add(digest, file)?;
    }
    for part in parts(layout, descriptor, depth)? {
        copy(from, layout, &part, depth.saturating_add(1))?;
    }
    Ok(())
}

/// Whether everything that an image is made of is in the layout.
fn is_whole(layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<(), LayoutError> {
    if !layout.has(descriptor) {
        return Err(LayoutError::Missing(descriptor.digest().clone()));
    }
    let parts = parts(layout, descriptor, depth)?;
    parts.iter().try_for_each(|part| is_whole(layout, part, depth.saturating_add(1)))
}

/// What a content names, if it is one that names others.
fn parts(layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<Vec<Descriptor>, LayoutError> {
    /// Indexes of indexes of manifests.
    const DEEPEST: usize = 5;
    let kind = descriptor.media_type();
    let is = |other: &str| kind.as_ref() == other;
    if depth > DEEPEST {
        return Err(LayoutError::Long(descriptor.digest().clone()));
    }
    if *kind == MediaType::ImageIndex || is(DOCKER_LIST) {
        let index: ImageIndex = layout.document(descriptor)?;
        return Ok(index.manifests().clone());
    }
    if *kind == MediaType::ImageManifest || is(DOCKER_MANIFEST) {
        let manifest: ImageManifest = layout.document(descriptor)?;
        return Ok(manifest.layers().iter().chain([manifest.config()]).cloned().collect());
    }
    Ok(Vec::new())
}
