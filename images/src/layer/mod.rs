//! A layer of an image, put over a tree: an archive of changes, as the OCI image specification's "Image Layer Filesystem
//! Changeset" has it.
//!
//! Layers come from anybody. Nothing of them touches the host's file system but the [`Spool`]: paths, links and devices are
//! entries of a tree, followed inside of it. What cannot be one is refused by name, and so is what grows without bound.

mod archive;
mod inflate;
mod pax;

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use archive::Header;
pub(crate) use archive::{Archive, Kind};
pub(crate) use inflate::{Compression, inflate};

use crate::provenance::Origin;
use crate::rootfs::{Entry, Node, Spool, Tree};

/// The names of what takes something of the layers below away.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Before these a layer speaks to its storage driver.
const RESERVED: &str = ".wh..wh.";

/// How much an image may unpack to. A layer of zeroes is a thousandth of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Default for Limits {
    /// More than any image that can be a part of an appliance.
    fn default() -> Self {
        Self { entries: 1 << 20, bytes: 16 << 30 }
    }
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("cannot read the layer")]
    Read(#[from] io::Error),
    #[error("{path}: {fault}")]
    Entry { path: String, fault: Fault },
    #[error("more than {0} files")]
    Files(u64),
    #[error("more than {0} bytes when it is unpacked")]
    Bytes(u64),
    #[error("more than {0} bytes behind its end")]
    End(u64),
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    #[error("the path leads out of the root")]
    Outside,
    #[error("the path leads through what is no directory, or through links without end")]
    Way,
    #[error("a name that is not UTF-8, is empty or has a zero in it")]
    Name,
    #[error("a path of more than 4095 bytes, or a name of more than 255")]
    Long,
    #[error("a hard link to what is no file of this image")]
    Link,
    #[error("an entry of a kind that no layer has")]
    Kind,
    #[error("a sparse file, which no layer has")]
    Sparse,
    #[error("a number that cannot be")]
    Number,
    #[error("an extended header that is too long or cannot be read")]
    Extension,
}

/// What is left of the limits, over all layers of an image.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    entries: u64,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, entries: 0, bytes: 0 }
    }

    fn take(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > self.limits.entries {
            return Err(LayerError::Files(self.limits.entries));
        }
        if self.bytes > self.limits.bytes {
            return Err(LayerError::Bytes(self.limits.bytes));
        }
        Ok(())
    }
}

/// Puts an unpacked layer, which is of this origin, over a tree.
pub(crate) fn apply(
    tree: &mut Tree,
    layer: impl Read,
    origin: &Arc<Origin>,
    spool: &Spool,
    budget: &mut Budget,
) -> Result<(), LayerError> {
    let mut archive = Archive::new(layer);
    // What this layer brings: nothing of it is taken away by what it takes away of those below.
    let mut brought = HashSet::new();
    while let Some(header) = archive.next()? {
        let entry = |fault| LayerError::Entry { path: header.path.clone(), fault };
        budget.take(header.size.saturating_add(header.beside()))?;
        // The root itself.
        let Some(path) = inside(&header.path).map_err(entry)? else { continue };
        let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            let above = if above.is_empty() {
                String::new()
            } else {
                tree.place(above).ok_or(Fault::Way).map_err(entry)?
            };
            hide_below(tree, &above, &brought);
        } else if path.split('/').any(|part| part.starts_with(RESERVED)) {
            // Hard links of a storage driver's own; of no meaning to others.
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // Neither the root nor what is above it can be taken away.
            if ["", ".", ".."].contains(&hidden) {
                continue;
            }
            let hidden = if above.is_empty() { hidden.to_owned() } else { format!("{above}/{hidden}") };
            let hidden = tree.place(&hidden).ok_or(Fault::Way).map_err(entry)?;
            if brought.contains(&hidden) {
                hide_below(tree, &hidden, &brought);
            } else {
                tree.remove(&hidden);
            }
        } else {
            let place = tree.place(&path).ok_or(Fault::Way).map_err(entry)?;
            let made = make(tree, &header, &mut archive, spool)?;
            tree.put(&place, made.of(origin));
            remember(&mut brought, place);
        }
    }
    Ok(())
}

/// Takes away what a directory has of the layers below.
fn hide_below(tree: &mut Tree, directory: &str, brought: &HashSet<String>) {
    let below = tree.below(directory).map(|(path, _)| path);
    let gone: Vec<_> = below.filter(|path| !brought.contains(*path)).map(str::to_owned).collect();
    gone.iter().for_each(|path| tree.remove_alone(path));
}

/// With all that is above it: a directory that holds something new is not taken away.
fn remember(brought: &mut HashSet<String>, place: String) {
    let mut rest = place.as_str();
    while let Some((above, _)) = rest.rsplit_once('/') {
        if !brought.insert(above.to_owned()) {
            break;
        }
        rest = above;
    }
    brought.insert(place);
}

fn make(
    tree: &Tree,
    header: &Header,
    archive: &mut Archive<impl Read>,
    spool: &Spool,
) -> Result<Entry, LayerError> {
    let entry = |fault| LayerError::Entry { path: header.path.clone(), fault };
    let node = match &header.kind {
        Kind::Directory => Node::Directory,
        Kind::File => Node::File(spool.add(archive.contents())?),
        Kind::Symlink(target) => Node::Symlink(target.clone()),
        Kind::Device { kind, major, minor } => Node::Device { kind: *kind, major: *major, minor: *minor },
        Kind::Fifo => Node::Fifo,
        // Another name of what is there, with all that it has.
        Kind::Link(target) => {
            let target = inside(target).map_err(entry)?.and_then(|target| tree.place(&target));
            let there =
                target.and_then(|target| tree.get(&target)).filter(|there| there.node != Node::Directory);
            return there.cloned().ok_or(entry(Fault::Link));
        }
    };
    let xattrs = header.xattrs.clone();
    Ok(Entry { uid: header.uid, gid: header.gid, xattrs, ..Entry::new(header.mode, node) })
}

/// A path of an archive as one of a tree; none for the root.
fn inside(path: &str) -> Result<Option<String>, Fault> {
    const LONGEST_NAME: usize = 255;
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Fault::Outside),
            part if part.len() > LONGEST_NAME => return Err(Fault::Long),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    match path.len() {
        0 => Ok(None),
        1..=archive::LONGEST_PATH => Ok(Some(path)),
        _ => Err(Fault::Long),
    }
}

#[cfg(test)]
mod tests;
