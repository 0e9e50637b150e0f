//! What a block device holds, so that nothing that somebody may want is ever overwritten.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How much at either end of the device has to be zero for it to count as new.
const HEAD: u64 = 1024 * 1024;
const TAIL: u64 = 64 * 1024;
const BLOCK: u64 = 4096;

/// What the first and last bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    Ext4,
    /// Something else, with the name of it where it is one that is known.
    Other(&'static str),
}

/// Signatures by their offset, each as the project that owns the format documents it.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"XFSB", "an XFS file system"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (4086, b"SWAPSPACE2", "swap space"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"\xeb\x58\x90", "a FAT file system"),
    (512, b"EFI PART", "a GPT partition table"),
    (3, b"NTFS    ", "an NTFS file system"),
    (0, b"QFI\xfb", "a qcow2 image"),
    (510, b"\x55\xaa", "a boot sector or partition table"),
];

const EXT4_MAGIC: (usize, &[u8]) = (1024 + 0x38, &[0x53, 0xef]);

/// Reads both ends of a device; of one that holds ext4 already, as at nearly every boot, only the first block.
pub(super) fn inspect(device: &mut File) -> io::Result<Content> {
    let size = device.seek(SeekFrom::End(0))?;
    device.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    device.by_ref().take(BLOCK).read_to_end(&mut head)?;
    if classify(&head) == Content::Ext4 {
        return Ok(Content::Ext4);
    }
    device.by_ref().take(HEAD.saturating_sub(BLOCK)).read_to_end(&mut head)?;
    let known = classify(&head);
    if known != Content::Nothing {
        return Ok(known);
    }
    device.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    device.take(TAIL).read_to_end(&mut tail)?;
    Ok(if is_zero(&tail) { Content::Nothing } else { Content::Other("data at its end") })
}

fn classify(head: &[u8]) -> Content {
    let holds =
        |(offset, magic): (usize, &[u8])| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if is_zero(head) {
        return Content::Nothing;
    }
    if holds(EXT4_MAGIC) {
        return Content::Ext4;
    }
    let known = SIGNATURES.iter().find(|(offset, magic, _)| holds((*offset, magic)));
    Content::Other(known.map_or("data that is no file system known here", |(_, _, name)| name))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn device(offset: u64, bytes: &[u8]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(64 * 1024 * 1024).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(bytes).unwrap();
        inspect(&mut file).unwrap()
    }

    #[test]
    fn a_sparse_new_disk_holds_nothing() {
        assert_eq!(device(0, &[]), Content::Nothing);
    }

    #[test]
    fn every_signature_is_found_at_its_offset() {
        assert_eq!(device(1080, &[0x53, 0xef]), Content::Ext4);
        for (offset, magic, name) in SIGNATURES {
            assert_eq!(device(*offset as u64, magic), Content::Other(name));
        }
    }

    #[test]
    fn anything_else_is_not_nothing() {
        assert_eq!(device(5000, b"x"), Content::Other("data that is no file system known here"));
        let end = 64 * 1024 * 1024 - 1;
        assert_eq!(device(end, b"x"), Content::Other("data at its end"));
    }
}
