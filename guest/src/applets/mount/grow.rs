//! Makes a mounted ext4 as large as its device, which the host may have enlarged.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `EXT4_IOC_RESIZE_FS` (Linux, include/uapi/linux/ext4.h): the new size, in blocks.
const RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);
/// Where the superblock begins, and what of it is read (Linux, Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_LENGTH: usize = 1024;

/// The size of a file system, as its superblock has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    blocks: u64,
    block_bytes: u64,
}

/// Grows it if there is room; returns its new size in bytes then.
pub(super) fn to_device(device: &Path, mounted_at: &Path) -> io::Result<Option<u64>> {
    let mut device = File::open(device)?;
    let room = device.seek(SeekFrom::End(0))?;
    let size = size(&mut device)?;
    let Some(blocks) = room.checked_div(size.block_bytes).filter(|blocks| *blocks > size.blocks) else {
        return Ok(None);
    };
    resize(&File::open(mounted_at)?, blocks)?;
    Ok(Some(blocks.saturating_mul(size.block_bytes)))
}

fn size(device: &mut (impl Read + Seek)) -> io::Result<Size> {
    let mut superblock = [0; SUPERBLOCK_LENGTH];
    device.seek(SeekFrom::Start(SUPERBLOCK))?;
    device.read_exact(&mut superblock)?;
    let field = |offset: usize| {
        let bytes = superblock.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes))
    };
    // s_blocks_count_lo and _hi, s_log_block_size.
    let blocks = field(0x4) | (field(0x150) << 32);
    let shift = u32::try_from(field(0x18)).ok();
    let block_bytes = shift.filter(|shift| *shift <= 6).map(|shift| 1024 << shift);
    let block_bytes =
        block_bytes.ok_or_else(|| io::Error::other("its superblock has no sensible block size"))?;
    Ok(Size { blocks, block_bytes })
}

fn resize(mounted: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64 and nothing else, and the opcode says the same.
    let request = unsafe { Setter::<RESIZE_FS, u64>::new(blocks) };
    // SAFETY: the request is only sent to a file system, which knows this number or refuses it; memory of this process
    // is not changed.
    unsafe { ioctl(mounted, request) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Size, size};

    fn disk(fields: &[(usize, u32)]) -> Cursor<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        for (offset, value) in fields {
            bytes[1024 + offset..][..4].copy_from_slice(&value.to_le_bytes());
        }
        Cursor::new(bytes)
    }

    #[test]
    fn size_is_read_from_both_halves_of_the_block_count() {
        let found = size(&mut disk(&[(0x4, 7), (0x150, 1), (0x18, 2)])).unwrap();
        assert_eq!(found, Size { blocks: (1 << 32) | 7, block_bytes: 4096 });
    }

    #[test]
    fn nonsense_is_no_size() {
        let error = size(&mut disk(&[(0x18, 77)])).unwrap_err();
        assert_eq!(error.to_string(), "its superblock has no sensible block size");
    }

    #[test]
    fn opcode_is_the_one_of_the_kernels_header() {
        assert_eq!(super::RESIZE_FS, 0x4008_6610);
    }
}
