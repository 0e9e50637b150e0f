//! The tree as an EROFS image: superblock, inodes with all that is small, and behind them the blocks.
//!
//! Contents come packed, so making an image is copying them; `mkfs.erofs` would compress them all, each time.

mod directory;
mod format;
mod index;
mod placement;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use self::directory::{Directory, Name};
pub(crate) use self::format::has_attribute;
use self::format::{Inode, Layout};
use self::placement::Placement;
use super::pack::{self, BLOCK, Extent, Packed};
use super::tarball::TIME;
use super::{Content, DeviceKind, Digest, Entry, Node, Tree};

const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4095;
/// What the last extent of a file may have at most to lie behind its index: more would leave gaps that nothing fills.
const LONGEST_TAIL: usize = BLOCK / 2;
/// A number of a block that is none.
const NOWHERE: u32 = u32::MAX;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("/{path} has a name of more than {LONGEST_NAME} bytes, and Linux has none that long")]
    Name { path: String },
    #[error("/{path} has extended attributes that Linux does not have, or too many")]
    Attributes { path: String },
    #[error("/{path} is a link to more than {LONGEST_TARGET} bytes, and Linux follows none that long")]
    Target { path: String },
    #[error("/{path} lies below what is no directory, and nobody would find it there")]
    Lost { path: String },
    #[error("the root has more files or bytes than its file system can number")]
    Large,
}

/// Writes the image of a tree to `image`; `scratch` is a directory for what is not packed yet.
pub(crate) fn make(mut tree: Tree, scratch: &Path, image: &Path) -> Result<(), ErofsError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        |source| ErofsError::Write { path, source }
    };
    tempfile::tempfile_in(scratch).and_then(|file| pack::pack(&mut tree, file)).map_err(write(scratch))?;
    let plan = Plan::of(&tree)?;
    let file = File::create(image).map_err(write(image))?;
    plan.write(BufWriter::with_capacity(1 << 20, file)).map_err(write(image))
}

/// An inode, and what belongs to it.
#[derive(Debug)]
struct Planned<'a> {
    inode: Inode,
    xattrs: Vec<u8>,
    data: Data<'a>,
    /// Where it lies.
    at: usize,
}

#[derive(Debug)]
enum Data<'a> {
    Directory(Directory<'a>),
    File(&'a Packed),
    Link(&'a str),
    Nothing,
}

/// Everything about an image but its bytes.
#[derive(Debug)]
struct Plan<'a> {
    /// The root first, then the tree in its order.
    inodes: Vec<Planned<'a>>,
    /// The blocks of all inodes, with the superblock.
    head: usize,
    blocks: u32,
}

impl<'a> Plan<'a> {
    fn of(tree: &'a Tree) -> Result<Self, ErofsError> {
        let mut inodes = inodes(tree)?;
        let mut placement = Placement::default();
        for planned in &mut inodes {
            planned.choose_layout();
            planned.at = placement.place(planned.bytes(), planned.uncut());
        }
        let head = placement.blocks();
        let mut plan = Self { inodes, head, blocks: 0 };
        plan.place_data()?;
        Ok(plan)
    }

    /// Gives each its blocks; what several files have, once.
    fn place_data(&mut self) -> Result<(), ErofsError> {
        let short = |blocks: usize| u32::try_from(blocks).map_err(|_| ErofsError::Large);
        let mut next = short(self.head)?;
        let mut known: HashMap<(Digest, &[Extent]), u32> = HashMap::new();
        for planned in &mut self.inodes {
            let count = short(planned.blocks())?;
            if count == 0 {
                continue;
            }
            let first = match &planned.data {
                Data::File(packed) => *known.entry((packed.digest(), packed.extents())).or_insert(next),
                Data::Directory(_) | Data::Link(_) | Data::Nothing => next,
            };
            if first == next {
                next = next.checked_add(count).filter(|next| *next < NOWHERE).ok_or(ErofsError::Large)?;
            }
            planned.inode.data = first;
        }
        self.blocks = next;
        Ok(())
    }

    /// What an inode is known by.
    fn number(&self, inode: usize) -> u64 {
        self.inodes.get(inode).map_or(0, |planned| (planned.at / format::SLOT) as u64)
    }

    fn write(&self, mut to: impl Write) -> io::Result<()> {
        self.write_inodes(&mut to)?;
        let mut next = u32::try_from(self.head).unwrap_or(NOWHERE);
        for planned in &self.inodes {
            let count = u32::try_from(planned.blocks()).unwrap_or_default();
            // What others have written already is not written again.
            if count > 0 && planned.inode.data == next {
                self.write_blocks(planned, &mut to)?;
                next = next.saturating_add(count);
            }
        }
        to.flush()
    }

    /// The superblock, and all inodes in the order of their places.
    fn write_inodes(&self, mut to: impl Write) -> io::Result<()> {
        let root = u16::try_from(self.number(0)).unwrap_or_default();
        let superblock = format::superblock(root, self.inodes.len() as u64, self.blocks, TIME);
        to.write_all(&superblock)?;
        let mut end = superblock.len();
        let mut inodes: Vec<_> = self.inodes.iter().collect();
        inodes.sort_by_key(|planned| planned.at);
        for planned in inodes {
            zeros(planned.at.saturating_sub(end), &mut to)?;
            let bytes = self.encode(planned)?;
            to.write_all(&bytes)?;
            end = planned.at.saturating_add(bytes.len());
        }
        zeros(self.head.saturating_mul(BLOCK).saturating_sub(end), to)
    }

    /// An inode with what is behind it.
    fn encode(&self, planned: &Planned<'_>) -> io::Result<Vec<u8>> {
        let Planned { inode, xattrs, data, .. } = planned;
        let mut written = *inode;
        if inode.layout == Layout::Compressed {
            written.data = u32::try_from(planned.blocks()).unwrap_or_default();
        }
        let mut bytes = written.encode(TIME);
        bytes.extend(xattrs);
        match (inode.layout, data) {
            (Layout::Compressed, Data::File(packed)) => {
                bytes.resize(bytes.len().next_multiple_of(format::INDEX_ENTRY), 0);
                bytes.extend(index::encode(packed.extents(), inode.data, planned.tail()));
                packed.stored(planned.extents_in_blocks()..usize::MAX, |_, stored| {
                    bytes.extend(stored);
                    Ok(())
                })?;
            }
            (Layout::Inline, Data::File(packed)) => packed.stored(0..usize::MAX, |_, stored| {
                bytes.extend(stored);
                Ok(())
            })?,
            (Layout::Inline, _) => {
                bytes.extend(self.own(data).get(planned.in_blocks()..).unwrap_or_default());
            }
            _ => {}
        }
        Ok(bytes)
    }

    /// The data of what is no file.
    fn own(&self, data: &Data<'_>) -> Vec<u8> {
        match data {
            Data::Directory(directory) => directory.encode(|inode| self.number(inode)),
            Data::Link(target) => target.as_bytes().to_vec(),
            Data::File(_) | Data::Nothing => Vec::new(),
        }
    }

    fn write_blocks(&self, planned: &Planned<'_>, mut to: impl Write) -> io::Result<()> {
        match &planned.data {
            Data::File(packed) => packed.stored(0..planned.extents_in_blocks(), |extent, stored| {
                let room = room_behind(stored);
                let (before, behind) = if extent.is_compressed() { (room, 0) } else { (0, room) };
                zeros(before, &mut to)?;
                to.write_all(stored)?;
                zeros(behind, &mut to)
            }),
            data => {
                let all = self.own(data);
                let blocks = all.get(..planned.in_blocks()).unwrap_or(&all);
                to.write_all(blocks)?;
                zeros(room_behind(blocks), to)
            }
        }
    }
}

/// What is left of the last block.
fn room_behind(bytes: &[u8]) -> usize {
    bytes.len().next_multiple_of(BLOCK).saturating_sub(bytes.len())
}

fn zeros(count: usize, mut to: impl Write) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count as u64), &mut to).map(drop)
}

impl Planned<'_> {
    fn choose_layout(&mut self) {
        let size = usize::try_from(self.inode.size).unwrap_or(usize::MAX);
        let head = self.inode.bytes().saturating_add(self.xattrs.len());
        let rest = match &self.data {
            Data::Directory(_) => size % BLOCK,
            _ => size,
        };
        self.inode.layout = match &self.data {
            Data::Nothing => Layout::Flat,
            _ if rest > 0 && head.saturating_add(rest) <= BLOCK => Layout::Inline,
            Data::File(packed) if packed.extents().iter().any(|extent| extent.is_compressed()) => {
                Layout::Compressed
            }
            _ => Layout::Flat,
        };
    }

    /// How many it has with what is behind it.
    fn bytes(&self) -> usize {
        let head = self.inode.bytes().saturating_add(self.xattrs.len());
        match self.inode.layout {
            Layout::Flat => head,
            Layout::Inline => {
                let size = usize::try_from(self.inode.size).unwrap_or(usize::MAX);
                head.saturating_add(size.saturating_sub(self.in_blocks()))
            }
            Layout::Compressed => {
                let index = index::bytes(self.inode.size).saturating_add(self.tail());
                head.next_multiple_of(format::INDEX_ENTRY).saturating_add(index)
            }
        }
    }

    /// How many of the last of them have to lie in one block.
    fn uncut(&self) -> usize {
        match self.inode.layout {
            Layout::Flat => 0,
            Layout::Inline => self.bytes(),
            Layout::Compressed => self.tail(),
        }
    }

    /// How many bytes of a compressed file lie behind its index: those of its last extent, or none.
    fn tail(&self) -> usize {
        let (Layout::Compressed, Data::File(packed)) = (self.inode.layout, &self.data) else { return 0 };
        let last = packed.extents().last().and_then(|extent| usize::try_from(extent.stored).ok());
        last.filter(|stored| *stored <= LONGEST_TAIL).unwrap_or_default()
    }

    /// How many of a file's extents lie in blocks: all, or all but the last.
    fn extents_in_blocks(&self) -> usize {
        let Data::File(packed) = &self.data else { return 0 };
        packed.extents().len().saturating_sub(usize::from(self.tail() > 0))
    }

    /// How many bytes of its data are not behind it, where it is not compressed.
    fn in_blocks(&self) -> usize {
        let size = usize::try_from(self.inode.size).unwrap_or(usize::MAX);
        match (self.inode.layout, &self.data) {
            (_, Data::Nothing) => 0,
            (Layout::Inline, Data::Directory(_)) => (size / BLOCK).saturating_mul(BLOCK),
            (Layout::Inline, _) => 0,
            (Layout::Flat | Layout::Compressed, _) => size,
        }
    }

    fn blocks(&self) -> usize {
        match (self.inode.layout, &self.data) {
            (Layout::Compressed, Data::File(packed)) => {
                packed.extents().iter().take(self.extents_in_blocks()).map(|extent| extent.blocks()).sum()
            }
            _ => format::blocks(self.in_blocks()),
        }
    }
}

/// The root, and everything in the tree.
fn inodes(tree: &Tree) -> Result<Vec<Planned<'_>>, ErofsError> {
    let paths = tree.entries().map(|(path, _)| path);
    let places: HashMap<&str, usize> = [""].into_iter().chain(paths).zip(0..).collect();
    let place = |path: &str| places.get(path).copied().unwrap_or_default();
    let mut names: HashMap<&str, Vec<Name<'_>>> = HashMap::new();
    for (path, entry) in tree.entries() {
        let (above, name) = split(path);
        if name.len() > LONGEST_NAME {
            return Err(ErofsError::Name { path: path.to_owned() });
        }
        let (_, kind) = kind(&entry.node);
        names.entry(above).or_default().push(Name { name, inode: place(path), kind });
    }
    let mut directory = |path: &str| {
        let (_, kind) = kind(&Node::Directory);
        let dots = [(".", path), ("..", split(path).0)];
        let dots = dots.map(|(name, path)| Name { name, inode: place(path), kind });
        Data::Directory(Directory::new(names.remove(path).into_iter().flatten().chain(dots).collect()))
    };
    let mut inodes = vec![planned("", &Entry::directory(0o755), 0, directory(""))?];
    for (path, entry) in tree.entries() {
        let data = match &entry.node {
            Node::Directory => directory(path),
            Node::File(content) => Data::File(packed(content)?),
            Node::Symlink(target) if target.len() > LONGEST_TARGET => {
                return Err(ErofsError::Target { path: path.to_owned() });
            }
            Node::Symlink(target) => Data::Link(target),
            Node::Device { .. } | Node::Fifo => Data::Nothing,
        };
        inodes.push(planned(path, entry, place(path), data)?);
    }
    let lost =
        names.iter().filter_map(|(above, names)| Some(format!("{above}/{}", names.first()?.name))).min();
    lost.map_or(Ok(inodes), |path| Err(ErofsError::Lost { path }))
}

/// A path as that of the directory and the name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn planned<'a>(path: &str, entry: &Entry, place: usize, data: Data<'a>) -> Result<Planned<'a>, ErofsError> {
    let attributes = || ErofsError::Attributes { path: path.to_owned() };
    let each = entry.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let xattrs = format::xattrs(each).ok_or_else(attributes)?;
    let (size, links) = match &data {
        Data::Directory(directory) => (directory.size() as u64, directory.links()),
        Data::File(packed) => (packed.size(), 1),
        Data::Link(target) => (target.len() as u64, 1),
        Data::Nothing => (0, 1),
    };
    let inode = Inode {
        layout: Layout::Flat,
        xattrs: format::xattr_count(xattrs.len()).ok_or_else(attributes)?,
        mode: kind(&entry.node).0 | (entry.mode & 0o7777),
        uid: entry.uid,
        gid: entry.gid,
        links,
        size,
        data: match entry.node {
            Node::Device { major, minor, .. } => format::device(major, minor),
            _ => NOWHERE,
        },
        number: u32::try_from(place).ok().and_then(|place| place.checked_add(1)).ok_or(ErofsError::Large)?,
    };
    Ok(Planned { inode, xattrs, data, at: 0 })
}

/// The type in a mode, and the one in a directory's entry.
fn kind(node: &Node) -> (u32, u8) {
    match node {
        Node::File(_) => (0o100_000, 1),
        Node::Directory => (0o040_000, 2),
        Node::Device { kind: DeviceKind::Character, .. } => (0o020_000, 3),
        Node::Device { kind: DeviceKind::Block, .. } => (0o060_000, 4),
        Node::Fifo => (0o010_000, 5),
        Node::Symlink(_) => (0o120_000, 7),
    }
}

fn packed(content: &Content) -> Result<&Packed, ErofsError> {
    match content {
        Content::Packed(packed) => Ok(packed),
        Content::Here(_) | Content::Spooled(_) => {
            let source = io::Error::other("a content is not packed");
            Err(ErofsError::Write { path: PathBuf::new(), source })
        }
    }
}
