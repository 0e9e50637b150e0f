//! The address space. Memory fills it from 0; what lies in [`GAP`] is moved above 4 GiB.

use std::ops::Range;

use crate::board::Place;

/// Where a kernel finds its start information, its command line and, for the 64-bit protocol, its first page tables.
/// All of it lies below the first 640 KiB, in memory that is the kernel's as soon as it has read it.
pub(super) const START_INFO: u64 = 0x6000;
pub(super) const MODULES: u64 = 0x6100;
pub(super) const MEMORY_MAP: u64 = 0x6200;
pub(super) const BOOT_PARAMETERS: u64 = 0x7000;
pub(super) const BOOT_STACK: u64 = 0x8ff0;
pub(super) const PAGE_TABLES: u64 = 0x9000;
pub(super) const COMMAND_LINE: u64 = 0x2_0000;
/// Linux takes 2047 characters on x86 (COMMAND_LINE_SIZE).
pub(super) const COMMAND_LINE_LENGTH: u64 = 0x800;

/// Low memory ends where a PC has its video memory.
pub(super) const LOW_MEMORY_END: u64 = 0xa_0000;
/// ACPI tables, where a PC has its firmware.
pub(super) const ACPI: Range<u64> = 0xe_0000..0xf_0000;
/// The generation id of the machine, after the tables: 16 bytes that a restored machine finds changed.
pub(super) const GENERATION_ID: u64 = 0xf_0000;
/// Where real mode begins after a reset: 16 bytes below the first MiB.
pub(super) const RESET_VECTOR: u64 = 0xf_fff0;
/// All of the other memory.
pub(super) const HIGH_MEMORY: u64 = 0x10_0000;

/// No memory here: devices, interrupt controllers, and what KVM keeps for itself.
pub(super) const GAP: Range<u64> = 0xc000_0000..0x1_0000_0000;
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;
pub(super) const IO_APIC: u32 = 0xfec0_0000;

/// Devices on virtio-mmio: each has a page of its own, and a line.
const VIRTIO: u64 = 0xd000_0000;
pub const VIRTIO_SIZE: u64 = 0x1000;
const FIRST_LINE: u32 = 8;
/// The inputs of the I/O APIC that are left.
pub(super) const MOST_VIRTIO: usize = 16;

/// Where the device with this number stands.
pub fn virtio(number: usize) -> Option<Place> {
    if number >= MOST_VIRTIO {
        return None;
    }
    let number = u32::try_from(number).ok()?;
    let line = FIRST_LINE.checked_add(number)?;
    Some(Place { address: VIRTIO.checked_add(u64::from(number).checked_mul(VIRTIO_SIZE)?)?, line })
}

/// The first serial port of a PC.
pub const SERIAL: Range<u16> = 0x3f8..0x400;
pub const SERIAL_LINE: u32 = 4;
/// The line of the power button, through ACPI's generic event device.
pub const POWER_BUTTON_LINE: u32 = 5;
/// The keyboard controller's command and status register.
pub(super) const KEYBOARD_COMMAND: u16 = 0x64;
/// ACPI's sleep control and sleep status registers, and the reset register (ACPI 6.5, 4.8.3.7 and 4.8.3.6).
pub const SLEEP_CONTROL: u16 = 0x600;
pub const SLEEP_STATUS: u16 = 0x601;
pub const RESET: u16 = 0x602;
/// What the registers are written for a power-off and a reset.
pub const SLEEP_ENABLE: u8 = 1 << 5;
pub const SLEEP_TYPE_OFF: u8 = 5;
pub const RESET_VALUE: u8 = 1;

/// Memory of `size` bytes, as ranges of the guest's addresses.
pub fn memory(size: u64) -> Vec<Range<u64>> {
    let low = size.min(GAP.start);
    let high = GAP.end.saturating_add(size.saturating_sub(low));
    [0..low, GAP.end..high].into_iter().filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_gap_out() {
        assert_eq!(memory(256 << 20), vec![Range { start: 0, end: 256 << 20 }]);
        assert_eq!(memory(GAP.start), vec![Range { start: 0, end: GAP.start }]);
        assert_eq!(memory(4 << 30), [0..GAP.start, GAP.end..GAP.end + (1 << 30)]);
    }

    #[test]
    fn nothing_overlaps() {
        let last = virtio(MOST_VIRTIO - 1).unwrap();
        assert!(GAP.contains(&VIRTIO) && last.address + VIRTIO_SIZE <= u64::from(IO_APIC));
        assert!(last.line < 24, "the I/O APIC of KVM has 24 inputs");
        assert_eq!(virtio(MOST_VIRTIO), None);
        const { assert!(MEMORY_MAP + 24 * 16 <= BOOT_PARAMETERS && PAGE_TABLES + 6 * 0x1000 <= COMMAND_LINE) };
        const { assert!(COMMAND_LINE + COMMAND_LINE_LENGTH <= LOW_MEMORY_END) };
    }
}
