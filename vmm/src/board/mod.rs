//! A board: what stands where in a guest's address space, how a kernel gets into its memory, and how it is told of
//! processors, memory and devices.

pub mod kernel;
pub mod x86_64;

/// Where a device answers, and what it interrupts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub address: u64,
    pub line: u32,
}
