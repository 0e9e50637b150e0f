//! EROFS as it lies on the disk (Linux, fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst): all numbers little
//! endian, all blocks a page.

use crate::rootfs::pack::{BLOCK, LARGEST};

const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;
/// Where the superblock is.
const START: usize = 1024;
const SUPERBLOCK: usize = 128;
/// The first inode may be here: what is before is the superblock, and behind it how large extents are.
pub(super) const FIRST_INODE: usize = 1184;
/// Fixed, like the times: an image is the same when its parts are.
const UUID: [u8; 16] = *b"\x6d\x76\x6d\x00\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01";

/// Compressed extents end where their last block ends; what is before them in the first is zeros.
const ZERO_PADDING: u32 = 0x1;
/// How each algorithm is configured is said behind the superblock, and extents may have several blocks.
const CONFIGURATIONS: u32 = 0x2;
/// The last extent of a file may lie behind its index instead of in blocks.
const TAILS: u32 = 0x10;
const LZ4: u16 = 1 << 0;
/// How far back LZ4 looks.
const DISTANCE: u16 = u16::MAX;

/// What inodes, and that is their number too, are counted in.
pub(super) const SLOT: usize = 32;
pub(super) const SHORT_INODE: usize = 32;
pub(super) const LONG_INODE: usize = 64;
pub(super) const DIRENT: usize = 12;
const XATTRS: usize = 12;
/// What a name of an extended attribute is cut at, and the number that stands for it.
const NAMESPACES: [(&str, u8); 4] =
    [("user.", 1), ("trusted.", 4), ("security.", 6), ("system.posix_acl_", 0)];
const ACLS: [(&str, u8); 2] = [("access", 2), ("default", 3)];

/// Of a file that is compressed: an entry for each block of it.
pub(super) const INDEX_ENTRY: usize = 8;
/// What stands before the entries.
pub(super) const INDEX_HEADER: usize = 16;
/// The second entry of an extent says how many blocks it has, with this bit to tell that from a distance.
const COUNT: u16 = 1 << 11;
/// Compressed extents may have several blocks.
const LARGE_EXTENTS: u16 = 0x2;
/// The last lies behind the index.
const TAIL: u16 = 0x8;

/// How the data of an inode lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks.
    Flat = 0,
    /// In extents, with an index behind the inode.
    Compressed = 1,
    /// In blocks, the last of them behind the inode.
    Inline = 2,
}

/// What is said of an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) layout: Layout,
    /// In the units that they are counted in: see [`xattr_count`].
    pub(super) xattrs: u16,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// The first block, how many there are where it is compressed, or the device's numbers.
    pub(super) data: u32,
    pub(super) number: u32,
}

impl Inode {
    /// A short one has no room for large numbers.
    pub(super) fn bytes(&self) -> usize {
        let fits =
            u16::try_from(self.uid.max(self.gid).max(self.links)).is_ok() && u32::try_from(self.size).is_ok();
        if fits { SHORT_INODE } else { LONG_INODE }
    }

    pub(super) fn encode(&self, time: u64) -> Vec<u8> {
        let is_long = self.bytes() == LONG_INODE;
        let format = u16::from(is_long) | (self.layout as u16) << 1;
        let mode = low(self.mode);
        let mut bytes = Vec::with_capacity(LONG_INODE);
        if is_long {
            [format, self.xattrs, mode, 0].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
            bytes.extend(self.size.to_le_bytes());
            [self.data, self.number, self.uid, self.gid]
                .iter()
                .for_each(|field| bytes.extend(field.to_le_bytes()));
            bytes.extend(time.to_le_bytes());
            [0, self.links].iter().for_each(|field: &u32| bytes.extend(field.to_le_bytes()));
            bytes.resize(LONG_INODE, 0);
        } else {
            // It has the file system's time.
            [format, self.xattrs, mode, low(self.links)]
                .iter()
                .for_each(|field| bytes.extend(field.to_le_bytes()));
            let size = u32::try_from(self.size).unwrap_or(u32::MAX);
            [size, 0, self.data, self.number].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
            [low(self.uid), low(self.gid)].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
            bytes.resize(SHORT_INODE, 0);
        }
        bytes
    }
}

/// What begins the image, up to the first inode.
pub(super) fn superblock(root: u16, inodes: u64, blocks: u32, time: u64) -> Vec<u8> {
    let mut bytes = vec![0; START];
    bytes.extend(MAGIC.to_le_bytes());
    // No checksum, and no feature that an older kernel may ignore.
    bytes.extend([0; 8]);
    bytes.extend([BLOCK_BITS, 0]);
    bytes.extend(root.to_le_bytes());
    bytes.extend(inodes.to_le_bytes());
    bytes.extend(time.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(blocks.to_le_bytes());
    // Inodes are counted from the image's beginning; no extended attribute is shared.
    bytes.extend([0; 8]);
    bytes.extend(UUID);
    bytes.extend([0; 16]);
    bytes.extend((ZERO_PADDING | CONFIGURATIONS | TAILS).to_le_bytes());
    bytes.extend(LZ4.to_le_bytes());
    bytes.resize(START.saturating_add(SUPERBLOCK), 0);
    // How LZ4 is configured: its length, and that.
    let largest = u16::try_from(LARGEST).unwrap_or_default();
    [14, DISTANCE, largest].iter().for_each(|field: &u16| bytes.extend(field.to_le_bytes()));
    bytes.resize(FIRST_INODE, 0);
    bytes
}

/// A directory's entry; the names are behind the entries of a block.
pub(super) fn dirent(inode: u64, name_at: u16, kind: u8) -> [u8; DIRENT] {
    let mut bytes = [0; DIRENT];
    let (number, rest) = bytes.split_at_mut(8);
    number.copy_from_slice(&inode.to_le_bytes());
    let [low, high] = name_at.to_le_bytes();
    rest.copy_from_slice(&[low, high, kind, 0]);
    bytes
}

/// A device's numbers, as Linux encodes them.
pub(super) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// The extended attributes of an inode; none where Linux has no such name, or the value is too long.
pub(super) fn xattrs<'a>(all: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in all {
        let (rest, namespace) = namespace(name)?;
        if bytes.is_empty() {
            bytes.resize(XATTRS, 0);
        }
        bytes.push(u8::try_from(rest.len()).ok()?);
        bytes.push(namespace);
        bytes.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(rest.as_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

/// As they are counted in an inode.
pub(super) fn xattr_count(bytes: usize) -> Option<u16> {
    match bytes.checked_sub(XATTRS) {
        None => Some(0),
        Some(rest) => u16::try_from((rest / 4).saturating_add(1)).ok(),
    }
}

/// Whether Linux has such an extended attribute.
pub(crate) fn has_attribute(name: &str) -> bool {
    name.len() <= 255 && namespace(name).is_some()
}

fn namespace(name: &str) -> Option<(&str, u8)> {
    let (rest, namespace) =
        NAMESPACES.iter().find_map(|(prefix, namespace)| Some((name.strip_prefix(prefix)?, *namespace)))?;
    if namespace != 0 {
        return (!rest.is_empty()).then_some((rest, namespace));
    }
    ACLS.iter().find(|(acl, _)| *acl == rest).map(|(_, namespace)| ("", *namespace))
}

/// What is before the entries of an index: the header, and as many bytes that mean nothing. `tail` is how many bytes the last
/// extent has behind it; none where it lies in blocks.
pub(super) fn index_header(tail: usize) -> Vec<u8> {
    let size = u16::try_from(tail).unwrap_or_default();
    let advice = if size > 0 { LARGE_EXTENTS | TAIL } else { LARGE_EXTENTS };
    let mut bytes = Vec::with_capacity(INDEX_HEADER);
    [0, size, advice].iter().for_each(|field: &u16| bytes.extend(field.to_le_bytes()));
    // Both algorithms are LZ4, and an entry is for a block: zeros.
    bytes.resize(INDEX_HEADER, 0);
    bytes
}

/// The entry of the block that an extent begins in, at an offset.
pub(super) fn index_head(is_compressed: bool, offset: u16, block: u32) -> [u8; INDEX_ENTRY] {
    index_entry(u16::from(is_compressed), offset, block)
}

/// The entry of a block that none begins in: how far it is to the one before that has one, and to the next. The first
/// behind a beginning says how many blocks the extent has instead.
pub(super) fn index_inner(back: u16, ahead: u16, blocks: usize) -> [u8; INDEX_ENTRY] {
    let blocks = u16::try_from(blocks).unwrap_or_default();
    let first = if back == 1 { blocks | COUNT } else { back };
    index_entry(2, 0, u32::from(first) | u32::from(ahead) << 16)
}

fn index_entry(kind: u16, offset: u16, rest: u32) -> [u8; INDEX_ENTRY] {
    let mut bytes = [0; INDEX_ENTRY];
    let (front, back) = bytes.split_at_mut(4);
    let ([a, b], [c, d]) = (kind.to_le_bytes(), offset.to_le_bytes());
    front.copy_from_slice(&[a, b, c, d]);
    back.copy_from_slice(&rest.to_le_bytes());
    bytes
}

/// The lower half of a number that is known to fit.
fn low(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// How many blocks so many bytes take.
pub(super) fn blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_those_of_linux() {
        for name in ["user.a", "trusted.overlay.opaque", "security.capability", "system.posix_acl_default"] {
            assert!(has_attribute(name), "{name}");
        }
        for name in ["user.", "system.posix_acl_other", "system.nfs4_acl", "com.apple.provenance", "a", ""] {
            assert!(!has_attribute(name), "{name}");
        }
        assert!(!has_attribute(&format!("user.{}", "x".repeat(251))));
        let all = [("user.ab", &b"c"[..]), ("system.posix_acl_access", b"12345")];
        let bytes = xattrs(all.into_iter()).unwrap();
        let expected: [&[u8]; 3] =
            [&[0; 12], b"\x02\x01\x01\x00abc\x00", b"\x00\x02\x05\x0012345\x00\x00\x00"];
        assert_eq!(bytes, expected.concat());
        assert_eq!(xattr_count(bytes.len()), Some(6));
        assert_eq!(xattr_count(0), Some(0));
    }

    #[test]
    fn a_device_has_both_its_numbers() {
        // As `makedev` and the kernel's new_encode_dev have it.
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0xfff, 0xf_ffff), u32::MAX);
        assert_eq!(device(1, 0x100), 0x0010_0100);
    }

    #[test]
    fn large_numbers_take_a_long_inode() {
        let inode = |uid, links, size| Inode {
            layout: Layout::Flat,
            xattrs: 0,
            mode: 0o100_644,
            uid,
            gid: 0,
            links,
            size,
            data: 7,
            number: 1,
        };
        for (inode, bytes) in [
            (inode(0xffff, 0xffff, 0xffff_ffff), SHORT_INODE),
            (inode(0x1_0000, 1, 1), LONG_INODE),
            (inode(0, 0x1_0000, 1), LONG_INODE),
            (inode(0, 1, 0x1_0000_0000), LONG_INODE),
        ] {
            assert_eq!((inode.bytes(), inode.encode(1).len()), (bytes, bytes), "{inode:?}");
        }
    }
}
