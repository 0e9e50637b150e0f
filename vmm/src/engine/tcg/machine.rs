//! What QEMU is told to be.

use std::path::PathBuf;

/// A machine from plain files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u8,
    pub memory_mib: u32,
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub command_line: String,
    /// In the order in which the guest finds them: `/dev/vda`, `/dev/vdb`.
    pub disks: Vec<Disk>,
}

/// A raw image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub path: PathBuf,
    pub is_read_only: bool,
}
