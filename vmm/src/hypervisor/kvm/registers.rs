//! A board's first state in KVM's structures.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::hypervisor::x86_64::{Mode, Registers};

// Bits of the control registers (AMD64 manual, volume 2, 3.1).
const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG: u64 = 1 << 8;
const EFER_LONG_ACTIVE: u64 = 1 << 10;
/// Bit 1 of the flags is always set.
const FLAGS: u64 = 2;

/// Selectors that Linux's boot protocol asks for; PVH has no opinion.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;
// Types of descriptors (AMD64 manual, volume 2, 4.7 and 4.8), accessed so that the processor need not write them.
const CODE_READABLE: u8 = 0xb;
const DATA_WRITABLE: u8 = 0x3;
const TASK_BUSY: u8 = 0xb;

pub(super) fn general(registers: &Registers) -> kvm_regs {
    kvm_regs {
        rip: registers.instruction_pointer,
        rbx: registers.rbx,
        rsi: registers.rsi,
        rsp: registers.rsp,
        rflags: FLAGS,
        ..kvm_regs::default()
    }
}

/// What `reset` becomes. No descriptor table is set: a kernel loads its own before it loads a segment.
pub(super) fn system(registers: &Registers, reset: kvm_sregs) -> kvm_sregs {
    let long = matches!(registers.mode, Mode::Long { .. });
    let data = segment(DATA, DATA_WRITABLE);
    let mut system = kvm_sregs {
        cs: kvm_segment { l: long.into(), db: (!long).into(), ..segment(CODE, CODE_READABLE) },
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        // A task segment ends at the I/O permissions' offset.
        tr: kvm_segment { limit: 0x67, g: 0, s: 0, db: 0, ..segment(TASK, TASK_BUSY) },
        cr0: CR0_PROTECTED | CR0_EXTENSION,
        ..reset
    };
    if let Mode::Long { page_tables } = registers.mode {
        system.cr0 |= CR0_PAGING;
        system.cr3 = page_tables;
        system.cr4 |= CR4_PHYSICAL_ADDRESS_EXTENSION;
        system.efer |= EFER_LONG | EFER_LONG_ACTIVE;
    }
    system
}

fn segment(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(mode: Mode) -> Registers {
        Registers { mode, instruction_pointer: 0x100_0000, rbx: 0x6000, rsi: 0x7000, rsp: 0x8000 }
    }

    #[test]
    fn pvh_kernel_starts_in_flat_protected_mode_without_paging() {
        let system = system(&start(Mode::Protected), kvm_sregs::default());
        assert_eq!(system.cr0, 0x11);
        assert_eq!((system.cr4, system.efer), (0, 0));
        assert_eq!((system.cs.base, system.cs.limit, system.cs.db, system.cs.l), (0, u32::MAX, 1, 0));
        let general = general(&start(Mode::Protected));
        assert_eq!((general.rip, general.rbx, general.rflags), (0x100_0000, 0x6000, 2));
    }

    #[test]
    fn kernel_of_the_64_bit_protocol_starts_in_long_mode() {
        let system = system(&start(Mode::Long { page_tables: 0x9000 }), kvm_sregs::default());
        assert_eq!((system.cr0, system.cr3, system.cr4, system.efer), (0x8000_0011, 0x9000, 0x20, 0x500));
        assert_eq!((system.cs.db, system.cs.l, system.cs.selector, system.ds.selector), (0, 1, 0x10, 0x18));
        assert_eq!(general(&start(Mode::Long { page_tables: 0 })).rsi, 0x7000);
    }
}
