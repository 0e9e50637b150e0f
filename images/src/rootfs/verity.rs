//! The hashes of an image's blocks, behind the image: dm-verity's format, version 1, as `veritysetup` reads and writes it
//! (Linux, Documentation/admin-guide/device-mapper/verity.rst; cryptsetup, docs/on-disk-format of dm-verity).
//!
//! The kernel holds each block that it reads against them, up to the one hash on its command line.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Of data and of hashes: a page.
const BLOCK: usize = 4096;
const SECTOR: u64 = 512;
const MAGIC: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
/// The salt comes before the data; there is none.
const HASH_TYPE: u32 = 1;
const ALGORITHM: &[u8] = b"sha256";
/// Fixed, as everything is: the same data has the same hashes.
const UUID: [u8; 16] = *b"\x6d\x76\x6d\x00\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01";
/// The word of a command line that says what is mounted as the root, where that is the disk itself, and what takes its place.
const DISK: &str = "/dev/vda";
const VERIFIED: &str = "/dev/dm-0";

/// What is known of an image that has its hashes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verity {
    /// How many blocks of data there are; in the one behind them the hashes are described.
    blocks: u64,
    /// The hash of all, in hexadecimal.
    pub(crate) root: String,
}

impl Verity {
    /// Puts the hashes behind an image of whole blocks.
    pub(crate) fn append(image: &Path) -> io::Result<Self> {
        let (blocks, hashes) = of_blocks(BufReader::new(File::open(image)?))?;
        let (levels, root) = levels(hashes);
        let mut file = File::options().append(true).open(image)?;
        file.write_all(&superblock(blocks))?;
        // The highest first.
        levels.iter().rev().try_for_each(|level| file.write_all(level))?;
        Ok(Self { blocks, root: hex::encode(root) })
    }

    /// A command line whose root is the disk, changed to one whose root is what the kernel makes of it and its hashes
    /// (`dm-mod.create`): a block that is not what it was ends the machine then.
    pub(crate) fn onto(&self, cmdline: &str) -> String {
        let root = format!("root={VERIFIED} dm-mod.create=\"root,,,ro,{}\"", self.table());
        let word = |word| if is_root(word) { root.as_str() } else { word };
        cmdline.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    /// Whether the root of this command line is the disk.
    pub(crate) fn is_for(cmdline: &str) -> bool {
        cmdline.split(' ').any(is_root)
    }

    fn table(&self) -> String {
        let Self { blocks, root } = self;
        let sectors = blocks.saturating_mul(BLOCK as u64 / SECTOR);
        let first_hash = blocks.saturating_add(1);
        format!(
            "0 {sectors} verity {VERSION} {DISK} {DISK} {BLOCK} {BLOCK} {blocks} {first_hash} sha256 {root} - 1 \
             panic_on_corruption"
        )
    }
}

fn is_root(word: &str) -> bool {
    word.strip_prefix("root=") == Some(DISK)
}

fn of_blocks(mut data: impl Read) -> io::Result<(u64, Vec<u8>)> {
    let (mut blocks, mut hashes) = (0_u64, Vec::new());
    let mut block = [0; BLOCK];
    loop {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match data.read(rest)? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        match filled {
            0 => return Ok((blocks, hashes)),
            BLOCK => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends within a block")),
        }
        hashes.extend_from_slice(&Sha256::digest(block));
        blocks = blocks.saturating_add(1);
    }
}

/// The blocks of hashes, those of the data first and each level over the one before; and the hash of the one block of the
/// last.
fn levels(mut hashes: Vec<u8>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut levels = Vec::new();
    while hashes.len() > Sha256::output_size() {
        let mut level = hashes;
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        hashes = level.chunks(BLOCK).flat_map(Sha256::digest).collect();
        levels.push(level);
    }
    (levels, hashes)
}

/// What the hashes are of: `struct verity_sb`, in a block of its own.
fn superblock(blocks: u64) -> Vec<u8> {
    let mut algorithm = ALGORITHM.to_vec();
    algorithm.resize(32, 0);
    let size = u32::try_from(BLOCK).unwrap_or_default().to_le_bytes();
    let fields: [&[u8]; 8] = [
        MAGIC,
        &VERSION.to_le_bytes(),
        &HASH_TYPE.to_le_bytes(),
        &UUID,
        &algorithm,
        &size,
        &size,
        &blocks.to_le_bytes(),
    ];
    let mut superblock = fields.concat();
    superblock.resize(BLOCK, 0);
    superblock
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(blocks: usize) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..blocks * BLOCK).map(|at| u8::try_from(at / BLOCK % 251).unwrap()).collect();
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// The root hashes, and the SHA-256 of all that is behind the image, are those of veritysetup 2.6.1:
    /// `veritysetup format --salt=- --uuid=6d766d00-0000-4000-8000-000000000001 IMAGE HASHES`.
    #[test]
    fn the_hashes_are_those_that_veritysetup_makes() {
        let expected = [
            (
                1,
                "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7",
                "8242d7513530b1d63aa04001af29944184e395c486d0ea671d4e5258428f8000",
            ),
            (
                128,
                "eade1212c3a6dd9dd817bf456bf067c41cdb483af154c5d0890d32744b7e4f6b",
                "ca286f70250df2e435bccaf39e503af60a875a4d16e470ae9b7ee2721e9b5bc0",
            ),
            (
                129,
                "f0dbc433d6188c4e8e30ee2de31ee90ab1edf2fd7438d97feab12f75375886ad",
                "90758e7474b8bf8ec2da42103207f7793bd55a6841245912502ab1f7b72eed88",
            ),
            (
                20_000,
                "4b31bead65043c2ca0ba39d230c32550ba6439978341f2375537506fb21a0beb",
                "16768f0de08ebe7842063677c7e13f3765c12d53d49fa6f686caaaa5a59588d5",
            ),
        ];
        for (blocks, root, hashes) in expected {
            let file = image(blocks);
            let made = Verity::append(file.path()).unwrap();
            assert_eq!((made.blocks, made.root.as_str()), (blocks as u64, root));
            let behind = &std::fs::read(&file).unwrap()[blocks * BLOCK..];
            assert_eq!(hex::encode(Sha256::digest(behind)), hashes, "{blocks} blocks");
        }
    }

    #[test]
    fn a_block_that_is_not_whole_is_refused() {
        let file = image(2);
        std::fs::OpenOptions::new().append(true).open(file.path()).unwrap().write_all(b"x").unwrap();
        let error = Verity::append(file.path()).unwrap_err().to_string();
        assert_eq!(error, "it ends within a block");
    }

    #[test]
    fn the_kernel_is_told_where_everything_is() {
        let verity = Verity { blocks: 10, root: "ab".to_owned() };
        assert_eq!(
            verity.onto("quiet root=/dev/vda rootfstype=erofs ro"),
            "quiet root=/dev/dm-0 dm-mod.create=\"root,,,ro,0 80 verity 1 /dev/vda /dev/vda 4096 4096 10 11 \
             sha256 ab - 1 panic_on_corruption\" rootfstype=erofs ro"
        );
        assert!(Verity::is_for("ro root=/dev/vda") && !Verity::is_for("root=/dev/vda2 ro"));
    }
}
