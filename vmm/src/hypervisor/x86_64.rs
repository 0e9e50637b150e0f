//! The state in which a board starts the first processor.

/// Registers that differ from what a reset leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    pub mode: Mode,
    pub instruction_pointer: u64,
    /// Where a PVH kernel finds its start information.
    pub rbx: u64,
    /// Where a kernel of the 64-bit boot protocol finds its parameters.
    pub rsi: u64,
    pub rsp: u64,
}

/// Flat segments either way, interrupts off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 32-bit protected mode, no paging: how a PVH kernel is entered (Xen, docs/misc/pvh.pandoc).
    Protected,
    /// 64-bit mode with the page tables at this address (Linux, Documentation/arch/x86/boot.rst).
    Long { page_tables: u64 },
}
