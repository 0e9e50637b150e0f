//! Unpacked images that are kept for the next build, their contents packed: `$XDG_CACHE_HOME/mvm/pieces/NAME-KEY`.
//!
//! A piece is one file: the contents, one behind the other; a JSON object that says what the tree is and where in the file
//! each content lies; how long that is, and a CRC of all before. What was cut short or has rotted is no piece: the image is
//! unpacked again.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::provenance::Origin;
use crate::rootfs::pack::{Extent, Packed};
use crate::rootfs::{Content, DeviceKind, Entry, Node, Tree};

/// The length and the CRC at the end.
const TRAILER: usize = 12;

#[derive(Serialize, Deserialize)]
struct Index {
    origins: Vec<Origin>,
    contents: Vec<Part>,
    entries: BTreeMap<String, Kept>,
}

/// A content.
#[derive(Serialize, Deserialize)]
struct Part {
    at: u64,
    size: u64,
    #[serde(with = "hex")]
    digest: [u8; 32],
    extents: Vec<(u32, u32)>,
}

/// What is at a path.
#[derive(Serialize, Deserialize)]
struct Kept {
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, Bytes>,
    node: KeptNode,
    /// Places among the origins: its own, and those of what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "hex")] Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeptNode {
    Directory,
    /// A place among the contents.
    File(usize),
    Symlink(String),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// The tree that is kept at a path; none where none is, or it is not whole.
pub(crate) fn read(path: &Path) -> io::Result<Option<Tree>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => Arc::new(file?),
    };
    Ok(index(&file)?.and_then(|index| tree(index, &file)))
}

fn index(file: &File) -> io::Result<Option<Index>> {
    let size = file.metadata()?.len();
    let Some(body) = size.checked_sub(TRAILER as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, body)?;
    let (length, crc) = trailer.split_at(8);
    let mut sum = crc32fast::Hasher::new();
    let mut all = file.take(body);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = all.read(&mut buffer)?;
        match buffer.get(..count).unwrap_or_default() {
            [] => break,
            part => sum.update(part),
        }
    }
    sum.update(length);
    if sum.finalize().to_le_bytes() != crc {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let Some(start) = body.checked_sub(length) else { return Ok(None) };
    let mut json = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut json, start)?;
    Ok(serde_json::from_slice(&json).ok())
}

fn tree(index: Index, file: &Arc<File>) -> Option<Tree> {
    let origins: Vec<_> = index.origins.into_iter().map(Arc::new).collect();
    let packed = |part: Part| {
        let extents = part.extents.into_iter().map(|(size, stored)| Extent { size, stored }).collect();
        Content::Packed(Packed::new((file, part.at), part.size, part.digest, extents))
    };
    let contents: Vec<_> = index.contents.into_iter().map(packed).collect();
    let mut tree = Tree::default();
    for (path, kept) in index.entries {
        let node = match kept.node {
            KeptNode::Directory => Node::Directory,
            KeptNode::File(number) => Node::File(contents.get(number)?.clone()),
            KeptNode::Symlink(target) => Node::Symlink(target),
            KeptNode::Character(major, minor) => Node::Device { kind: DeviceKind::Character, major, minor },
            KeptNode::Block(major, minor) => Node::Device { kind: DeviceKind::Block, major, minor },
            KeptNode::Fifo => Node::Fifo,
        };
        let origin = |number: usize| origins.get(number).cloned();
        let xattrs = kept.xattrs.into_iter().map(|(name, value)| (name, value.0)).collect();
        let origin_of = match kept.origin {
            None => None,
            Some(number) => Some(origin(number)?),
        };
        let Kept { mode, uid, gid, .. } = kept;
        let replaced = kept.replaced.into_iter().map(origin).collect::<Option<Vec<_>>>()?;
        tree.restore(path, Entry { mode, uid, gid, xattrs, node, origin: origin_of }, replaced);
    }
    Some(tree)
}

/// Keeps a packed tree at a path, and gives it back as it lies there: what it was packed into before is no longer needed.
pub(crate) fn keep(tree: &Tree, path: &Path) -> io::Result<Tree> {
    files::make_atomically(path, |file| write(tree, file))?;
    // Renamed meanwhile, and no less there.
    let lost = || io::Error::other(format!("{} is not what was written", path.display()));
    read(path)?.ok_or_else(lost)
}

fn write(tree: &Tree, file: &mut File) -> io::Result<()> {
    let mut to =
        Summed { to: io::BufWriter::with_capacity(1 << 20, file), sum: crc32fast::Hasher::new(), at: 0 };
    let (mut contents, mut known) = (Vec::new(), HashMap::new());
    let (mut origins, mut numbers) = (Vec::new(), HashMap::new());
    let mut entries = BTreeMap::new();
    let mut number = |origin: &Arc<Origin>| {
        *numbers.entry(Arc::clone(origin)).or_insert_with(|| {
            origins.push(Origin::clone(origin));
            origins.len().saturating_sub(1)
        })
    };
    for (path, entry) in tree.entries() {
        let node = match &entry.node {
            Node::Directory => KeptNode::Directory,
            Node::File(Content::Packed(packed)) => {
                let next = contents.len();
                let place = *known.entry(packed.digest()).or_insert(next);
                if place == next {
                    contents.push(to.content(packed)?);
                }
                KeptNode::File(place)
            }
            Node::File(_) => return Err(io::Error::other(format!("/{path} is not packed"))),
            Node::Symlink(target) => KeptNode::Symlink(target.clone()),
            Node::Device { kind: DeviceKind::Character, major, minor } => KeptNode::Character(*major, *minor),
            Node::Device { kind: DeviceKind::Block, major, minor } => KeptNode::Block(*major, *minor),
            Node::Fifo => KeptNode::Fifo,
        };
        let xattrs = entry.xattrs.iter().map(|(name, value)| (name.clone(), Bytes(value.clone())));
        let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
        let origin = entry.origin.as_ref().map(&mut number);
        let replaced = tree.replaced(path).iter().map(&mut number).collect();
        let kept = Kept { mode, uid, gid, xattrs: xattrs.collect(), node, origin, replaced };
        entries.insert(path.to_owned(), kept);
    }
    let start = to.at;
    serde_json::to_writer(&mut to, &Index { origins, contents, entries })?;
    let length = to.at.saturating_sub(start);
    to.write_all(&length.to_le_bytes())?;
    let sum = to.sum.finalize();
    to.to.write_all(&sum.to_le_bytes())?;
    to.to.flush()
}

/// What is written, with its CRC so far.
struct Summed<W> {
    to: W,
    sum: crc32fast::Hasher,
    at: u64,
}

impl<W: Write> Summed<W> {
    fn content(&mut self, packed: &Packed) -> io::Result<Part> {
        let at = self.at;
        let mut extents = Vec::with_capacity(packed.extents().len());
        packed.stored(0..usize::MAX, |extent, stored| {
            extents.push((extent.size, extent.stored));
            self.write_all(stored)
        })?;
        Ok(Part { at, size: packed.size(), digest: packed.digest(), extents })
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Material;
    use crate::rootfs::pack;

    fn made() -> Tree {
        let origin = |name: &str| Arc::new(Origin::own(Material::Component(name.to_owned())));
        let mut tree = Tree::default();
        let mut capable = Entry::file(0o4755, vec![7; 70_000]).of(&origin("one"));
        capable.xattrs.insert("security.capability".to_owned(), vec![0, 255, 10]);
        tree.put("bin/x", capable);
        tree.put(
            "bin/x",
            Entry { uid: 70_000, gid: 5, ..Entry::file(0o600, vec![7; 70_000]).of(&origin("two")) },
        );
        tree.put("bin/same", Entry::file(0o644, vec![7; 70_000]).of(&origin("one")));
        tree.put("etc/link", Entry::symlink("../x y").of(&origin("two")));
        tree.put(
            "dev/null",
            Entry::new(0o666, Node::Device { kind: DeviceKind::Character, major: 1, minor: 3 }),
        );
        tree.put(
            "dev/vda",
            Entry::new(0o660, Node::Device { kind: DeviceKind::Block, major: 254, minor: 0 }),
        );
        tree.put("run/fifo", Entry::new(0o600, Node::Fifo));
        tree.put("empty", Entry::file(0o644, *b""));
        pack::pack(&mut tree, tempfile::tempfile().unwrap()).unwrap();
        tree
    }

    #[test]
    fn a_tree_is_what_it_was_with_all_its_origins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("piece");
        assert_eq!(read(&path).unwrap(), None);
        let tree = made();
        let kept = keep(&tree, &path).unwrap();
        let again = read(&path).unwrap().unwrap();
        for other in [&kept, &again] {
            assert_eq!(other, &tree);
            for (path, entry) in tree.entries() {
                assert_eq!(other.get(path).unwrap().origin, entry.origin, "{path}");
                assert_eq!(other.replaced(path), tree.replaced(path), "{path}");
            }
        }
        assert_eq!(tree.replaced("bin/x").len(), 1);
        let mut bytes = Vec::new();
        again.file("bin/x").unwrap().reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![7; 70_000]);
    }

    #[test]
    fn what_is_not_whole_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("piece");
        keep(&made(), &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            std::fs::write(&path, &rotten).unwrap();
            assert_eq!(read(&path).unwrap(), None, "a flipped bit at {at} of {}", whole.len());
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path).unwrap(), None, "cut at {at}");
        }
    }
}
