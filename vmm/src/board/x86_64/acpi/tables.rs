//! The tables other than the devices' own code.

use crate::board::x86_64::layout::{IO_APIC, LOCAL_APIC, RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS};

const OEM: &[u8; 6] = b"MVM   ";
const OEM_TABLE: &[u8; 8] = b"MVMBOARD";
const CREATOR: &[u8; 4] = b"MVM ";

/// A table with its header in front (ACPI 6.5, 5.2.6): the sum of all its bytes is zero.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    const HEADER: usize = 36;
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::from(signature);
    bytes.extend(length.to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(OEM);
    bytes.extend(OEM_TABLE);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(CREATOR);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(body);
    set_checksum(&mut bytes, 9);
    bytes
}

fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(at) {
        *checksum = checksum.wrapping_sub(sum);
    }
}

/// The root pointer (5.2.5.3), with one checksum over its first part and one over all of it.
pub(super) fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut bytes = Vec::from(b"RSD PTR ");
    bytes.push(0);
    bytes.extend(OEM);
    bytes.push(2);
    bytes.extend([0; 4]);
    bytes.extend(36_u32.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    set_checksum(bytes.get_mut(..20).unwrap_or_default(), 8);
    set_checksum(&mut bytes, 32);
    bytes
}

/// The table of tables (5.2.8).
pub(super) fn xsdt(tables: &[u64]) -> Vec<u8> {
    let addresses: Vec<u8> = tables.iter().flat_map(|address| address.to_le_bytes()).collect();
    table(b"XSDT", 1, &addresses)
}

pub(super) fn dsdt(code: &[u8]) -> Vec<u8> {
    table(b"DSDT", 2, code)
}

/// The fixed description (5.2.9): that there is nothing fixed but the sleep and reset registers.
pub(super) fn fadt(dsdt: u64) -> Vec<u8> {
    const POWER_BUTTON_IS_A_DEVICE: u32 = 1 << 4;
    const SLEEP_BUTTON_IS_A_DEVICE: u32 = 1 << 5;
    const RESET_REGISTER: u32 = 1 << 10;
    const HARDWARE_REDUCED: u32 = 1 << 20;
    // Flags of the PC's boot architecture (5.2.9.3): no VGA, no clock in CMOS memory; and by their absence neither
    // legacy devices nor a keyboard controller.
    const NO_VGA: u16 = 1 << 2;
    const NO_CMOS_CLOCK: u16 = 1 << 5;
    // Fields by their offset in the table, less the header's 36 bytes; all others are zero.
    let mut body = [0; 276 - 36];
    let mut put = |offset: usize, bytes: &[u8]| {
        for (to, from) in body.iter_mut().skip(offset - 36).zip(bytes) {
            *to = *from;
        }
    };
    let flags = POWER_BUTTON_IS_A_DEVICE | SLEEP_BUTTON_IS_A_DEVICE | RESET_REGISTER | HARDWARE_REDUCED;
    put(109, &(NO_VGA | NO_CMOS_CLOCK).to_le_bytes());
    put(112, &flags.to_le_bytes());
    put(116, &port(RESET));
    put(128, &[RESET_VALUE]);
    // Minor version of the specification.
    put(131, &[5]);
    put(140, &dsdt.to_le_bytes());
    put(244, &port(SLEEP_CONTROL));
    put(256, &port(SLEEP_STATUS));
    put(268, b"MVM     ");
    table(b"FACP", 6, &body)
}

/// A generic address (5.2.3.2) of one byte in I/O space.
fn port(number: u16) -> Vec<u8> {
    [&[1, 8, 0, 1][..], &u64::from(number).to_le_bytes()].concat()
}

/// Processors and interrupt controllers (5.2.12).
pub(super) fn madt(cpus: u8) -> Vec<u8> {
    const ENABLED: u32 = 1;
    let mut body = Vec::from(LOCAL_APIC.to_le_bytes());
    // No pair of 8259 controllers beside the APICs.
    body.extend(0_u32.to_le_bytes());
    for cpu in 0..cpus {
        body.extend([0, 8, cpu, cpu]);
        body.extend(ENABLED.to_le_bytes());
    }
    // One I/O APIC: its id, its address, and the first interrupt that it takes.
    body.extend([1, 12, 0, 0]);
    body.extend(IO_APIC.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    table(b"APIC", 6, &body)
}
