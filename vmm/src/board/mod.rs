//! A board: what stands where in a guest's address space, how a kernel gets into its memory, and how it is told of
//! processors, memory and devices.

pub mod kernel;
pub mod x86_64;

/// The board of this host's machines.
pub(crate) use x86_64::layout::{POWER_BUTTON_LINE, VIRTIO_SIZE, memory as memory_layout, virtio};
pub use x86_64::{BoardError, prepare};
pub(crate) use x86_64::{Contents, add_fixed};

/// Where a device answers, and what it interrupts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub address: u64,
    pub line: u32,
}

/// How a guest wants its machine to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    PowerOff,
    Reset,
}
