//! Images from files: an OCI layout as a directory, or as an archive, which `docker save` writes.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, ImageIndex};

use crate::component;
use crate::exclusive::{Exclusive, ExclusiveError};
use crate::layer::{Archive, Kind, LayerError};
use crate::layout::graph::{deeper, is_index};
use crate::layout::{Layout, LayoutError, name_of};
use crate::request::Directories;
use crate::signature::{self, SignatureError};
use crate::store;

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
        "{0} holds {1} appliances, and one is to be booted; `mvm image import` takes over all that have names, for `mvm up --image NAME`"
    )]
    Appliances(PathBuf, usize),
    #[error(
        "names that begin with mvm/ are those of mvm's own images, and {0} is one; give another with --name"
    )]
    Reserved(String),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("there is no {0}; `mvm image ls` shows what there is")]
    Unknown(String),
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

/// Takes over the one appliance of a file or directory, under the name of its place.
pub fn import_appliance(directories: &Directories, from: &Path) -> Result<Imported, ImportError> {
    let _alone = Exclusive::wait(directories)?;
    let layout = Layout::open(&directories.images())?;
    let index = take(from, &layout)?;
    let mut appliances = Vec::new();
    for each in index.manifests().iter().filter(|each| layout.has(each)) {
        appliances.push(layout.with_its_kind(each.clone())?);
    }
    let beside = appliances.clone();
    appliances.retain(store::is_appliance);
    let [appliance] = appliances.as_slice() else {
        return Err(ImportError::Appliances(from.to_owned(), appliances.len()));
    };
    let name = from.display().to_string();
    is_all_there(&layout, from, &name, appliance)?;
    keep_signatures(&layout, appliance, &beside)?;
    let appliance = layout.tag(&name, store::foreign(appliance.clone()))?;
    Ok(Imported { name, digest: appliance.digest().to_string() })
}

pub(crate) fn import_into(
    layout: &Path,
    from: &Path,
    name: Option<&str>,
) -> Result<Vec<Imported>, ImportError> {
    let layout = Layout::open(layout)?;
    let index = take(from, &layout)?;
    let (signatures, others): (Vec<_>, Vec<_>) =
        index.manifests().iter().cloned().partition(signature::is_of_signatures);
    let mut named: Vec<_> = others.iter().map(|each| (name_of(each), each)).collect();
    if let Some(name) = name {
        let [only] = named.as_mut_slice() else {
            return Err(ImportError::Nameless(from.to_owned(), named.len()));
        };
        only.0 = Some(name);
    }
    let mut imported = Vec::new();
    for (name, descriptor) in &named {
        let Some(name) = name else { return Err(ImportError::Nameless(from.to_owned(), named.len())) };
        is_free(name)?;
        is_all_there(&layout, from, name, descriptor)?;
        imported.push(Imported { name: (*name).to_owned(), digest: descriptor.digest().to_string() });
    }
    // Names are given when all is there.
    for (name, descriptor) in named {
        keep_signatures(&layout, descriptor, &signatures)?;
        layout.tag(name.unwrap_or_default(), store::foreign(descriptor.clone()))?;
    }
    Ok(imported)
}

/// Takes over signatures that lie beside an appliance and are its own.
fn keep_signatures(
    layout: &Layout,
    appliance: &Descriptor,
    beside: &[Descriptor],
) -> Result<(), ImportError> {
    let name = signature::name_of(appliance.digest());
    let is_of_it = |each: &&Descriptor| signature::is_of_signatures(each) && name_of(each) == Some(&name);
    for each in beside.iter().filter(is_of_it) {
        layout.is_whole(each).map_err(ImportError::from)?;
        signature::take_over(layout, appliance, each)?;
    }
    Ok(())
}

/// Gives a name to an image that came into the layout otherwise, with its signatures, if all of it is there. Waits for whoever
/// else writes to the layout.
pub fn keep(
    directories: &Directories,
    name: &str,
    image: Descriptor,
    signatures: Option<&Descriptor>,
) -> Result<Imported, ImportError> {
    is_free(name)?;
    let _alone = Exclusive::wait(directories)?;
    let layout = Layout::open(&directories.images())?;
    is_all_there(&layout, layout.dir(), name, &image)?;
    if let Some(signatures) = signatures {
        signature::take_over(&layout, &image, signatures)?;
    }
    let image = layout.tag(name, store::foreign(image))?;
    Ok(Imported { name: name.to_owned(), digest: image.digest().to_string() })
}

/// Takes a name away; what it named goes with the next prune, unless another name leads there.
pub fn forget(directories: &Directories, name: &str) -> Result<(), ImportError> {
    let _alone = Exclusive::wait(directories)?;
    let layout = Layout::open(&directories.images())?;
    if layout.untag(name)? { Ok(()) } else { Err(ImportError::Unknown(name.to_owned())) }
}

/// Takes over all contents; the index says what they are.
fn take(from: &Path, layout: &Layout) -> Result<ImageIndex, ImportError> {
    let read = |source| ImportError::Read { path: from.to_owned(), source };
    if !fs::metadata(from).map_err(read)?.is_dir() {
        return parsed(from, unpack(from, layout)?);
    }
    let index = File::open(from.join("index.json")).ok();
    let index = parsed(from, index.map(bounded).transpose().map_err(read)?)?;
    for each in index.manifests() {
        copy(from, layout, each, 0)?;
    }
    Ok(index)
}

fn is_all_there(
    layout: &Layout,
    from: &Path,
    name: &str,
    descriptor: &Descriptor,
) -> Result<(), ImportError> {
    layout.is_whole(descriptor).map_err(|source| ImportError::Incomplete {
        path: from.to_owned(),
        name: name.to_owned(),
        source,
    })
}

/// Names of mvm's own images are not taken over.
fn is_free(name: &str) -> Result<(), ImportError> {
    match component::name_of(name) {
        Some(_) => Err(ImportError::Reserved(name.to_owned())),
        None => Ok(()),
    }
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
        // What is there was held against its digest when it came.
        if let Some(digest) = digest
            && !layout.has_bytes(&digest, header.size)
        {
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
    let depth = deeper(depth)?;
    for part in layout.parts(descriptor)? {
        if !is_index || blob(from, part.digest()).exists() {
            copy(from, layout, &part, depth)?;
        }
    }
    Ok(())
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
}
