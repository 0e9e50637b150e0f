//! The tables by which the guest finds its processors, devices and power button: hardware-reduced ACPI, so that nothing
//! of an old PC has to be there (ACPI 6.5, chapters 4 and 5). Pure: out come bytes and where they belong.
// What is added and multiplied here are sizes of tables of our own, which nobody else controls.
#![allow(clippy::arithmetic_side_effects)]

mod aml;
mod devices;
mod tables;

use crate::board::Place;

/// What the tables tell.
#[derive(Debug, Clone)]
pub(super) struct Machine<'a> {
    pub(super) cpus: u8,
    /// The devices on virtio-mmio.
    pub(super) virtio: &'a [Place],
}

/// All tables as one piece for `address`, and the address of the root pointer (RSDP) that leads to them.
pub(super) fn build(address: u64, machine: &Machine<'_>) -> (Vec<u8>, u64) {
    let mut blob = Blob { address, bytes: Vec::new() };
    let dsdt = blob.add(tables::dsdt(&devices::all(machine.virtio)));
    let fadt = blob.add(tables::fadt(dsdt));
    let madt = blob.add(tables::madt(machine.cpus));
    let xsdt = blob.add(tables::xsdt(&[fadt, madt]));
    let rsdp = blob.add(tables::rsdp(xsdt));
    (blob.bytes, rsdp)
}

struct Blob {
    address: u64,
    bytes: Vec<u8>,
}

impl Blob {
    /// Puts a table behind those before it, and returns its address.
    fn add(&mut self, table: Vec<u8>) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let address = self.address + self.bytes.len() as u64;
        self.bytes.extend(table);
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::x86_64::layout::{ACPI, virtio};

    fn tables(cpus: u8, devices: usize) -> (Vec<u8>, u64) {
        let places: Vec<Place> = (0..devices).map(|number| virtio(number).unwrap()).collect();
        build(ACPI.start, &Machine { cpus, virtio: &places })
    }

    #[test]
    fn the_largest_machine_fits() {
        let (bytes, _) = tables(32, crate::board::x86_64::layout::MOST_VIRTIO);
        assert!((bytes.len() as u64) < ACPI.end - ACPI.start, "{} bytes", bytes.len());
    }

    #[test]
    fn root_pointer_leads_to_tables_whose_sums_are_zero() {
        let (bytes, rsdp) = tables(2, 3);
        let at = |address: u64| &bytes[usize::try_from(address - ACPI.start).unwrap()..];
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let root = at(rsdp);
        assert_eq!(&root[..8], b"RSD PTR ");
        assert_eq!((sum(&root[..20]), sum(&root[..36])), (0, 0));
        let xsdt = at(word(&root[24..]));
        let length = |table: &[u8]| u32::from_le_bytes(table[4..8].try_into().unwrap()) as usize;
        let mut names = vec![];
        let mut check = |table: &[u8]| {
            assert_eq!(sum(&table[..length(table)]), 0, "{:?}", &table[..4]);
            names.push(String::from_utf8(table[..4].to_vec()).unwrap());
        };
        check(xsdt);
        for entry in xsdt[36..length(xsdt)].chunks(8) {
            check(at(word(entry)));
        }
        let fadt = at(word(&xsdt[36..]));
        check(at(word(&fadt[140..])));
        assert_eq!(names, ["XSDT", "FACP", "APIC", "DSDT"]);
    }
}
