//! Kernel images: an ELF file with a PVH entry, which is placed as it is, or a bzImage, which unpacks itself.

mod bzimage;
mod elf;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) use self::bzimage::SETUP_HEADER;
use crate::memory::{Memory, MemoryError};

/// Why a file is no kernel that this board can start.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot read the kernel")]
    Read(#[source] io::Error),
    #[error("the kernel is neither an x86_64 ELF file nor a bzImage")]
    Unknown,
    #[error("the kernel has no PVH entry; build it with CONFIG_PVH, or give its bzImage")]
    NoPvhEntry,
    #[error("the kernel's headers make no sense: {0}")]
    Malformed(&'static str),
    #[error("the kernel is too old: it needs version 2.12 of the boot protocol, and has {0:#06x}")]
    Protocol(u16),
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A kernel in the guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub entry: u64,
    /// Where its memory ends.
    pub end: u64,
    pub protocol: Protocol,
}

/// How it wants to be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// In protected mode, with the address of its start information in EBX.
    Pvh,
    /// In 64-bit mode, with the address of its parameters in RSI; they begin with the setup header of its file.
    Linux { setup_header: Vec<u8> },
}

/// Places the kernel.
pub fn load(file: &File, memory: &Memory) -> Result<Kernel, KernelError> {
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).map_err(KernelError::Read)?;
    if magic == *b"\x7fELF" { elf::load(file, memory) } else { bzimage::load(file, memory) }
}

/// `N` bytes at an offset of a header that was read before.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// An ELF kernel of a few bytes, entered at 1 MiB.
#[cfg(test)]
pub(crate) fn tests_image() -> Vec<u8> {
    elf::tests::image(&[0xf4])
}
