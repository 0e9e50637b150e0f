//! Images from files: an OCI layout as a directory, or as an archive, which `docker save` writes.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, ImageIndex};

use super::graph::{is_index, is_whole, parts};
use crate::component;
use crate::exclusive::{Exclusive, ExclusiveError};
use crate::layer::{Archive, Kind, LayerError};
use crate::layout::{Layout, LayoutError, name_of};
use crate::request::Directories;

/// Why an image cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is neither a directory nor an archive that can be read")]
    Archive { path: PathBuf, source: LayerError },
    #[error("{0} holds no OCI image layout: it has no index.json")]
    NoLayout(PathBuf),
    #[error("the index.json of {path} cannot be read")]
    Index { path: PathBuf, source: oci_spec::OciSpecError },
    #[error("{0} holds {1} images without a name; give one with --name")]
    Nameless(PathBuf, usize),
    #[error(
        "names that begin with mvm/ are those of mvm's own images, and {0} is one; give another with --name"
    )]
    Reserved(String),
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
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

/// Takes over all images of a file or directory that have names, or the one that it has under another name. Waits for whoever
/// else writes to the layout.
pub fn import(
    directories: &Directories,
    from: &Path,
    name: Option<&str>,
) -> Result<Vec<Imported>, ImportError> {
    let _alone = Exclusive::wait(directories)?;
    import_into(&directories.images(), from, name)
}

pub(crate) fn import_into(
    layout: &Path,
    from: &Path,
    name: Option<&str>,
) -> Result<Vec<Imported>, ImportError> {
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
        if component::name_of(name).is_some() {
            return Err(ImportError::Reserved((*name).to_owned()));
        }
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
    let broken = |source| ImportError::Archive { path: from.to_owned(), source };
    let mut archive = Archive::new(BufReader::new(File::open(from).map_err(read)?));
    let mut index = None;
    while let Some(header) = archive.next().map_err(broken)? {
        if header.kind != Kind::File {
            continue;
        }
        let path = header.path.strip_prefix("./").unwrap_or(&header.path);
        if path == "index.json" {
            index = Some(bounded(archive.contents()).map_err(read)?);
        }
        let digest = path.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
        if let Some(digest) = digest {
            layout.add(&digest, archive.contents())?;
        }
    }
    Ok(index)
}

/// Takes over a content of a directory, and what it names.
fn copy(from: &Path, layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<(), ImportError> {
    let digest: &Digest = descriptor.digest();
    if !layout.has(descriptor) {
        let path = blob(from, digest);
        let file = File::open(&path).map_err(|source| ImportError::Read { path, source })?;
        layout.add(digest, file)?;
    }
    let is_index = is_index(descriptor);
    for part in parts(layout, descriptor, depth)? {
        if !is_index || blob(from, part.digest()).exists() {
            copy(from, layout, &part, depth.saturating_add(1))?;
        }
    }
    Ok(())
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
}
