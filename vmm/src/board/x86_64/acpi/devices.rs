//! The devices, as the guest finds them in the DSDT.

use super::aml::{
    assign, device, eisa_id, integer, interrupt, list, memory32, method, notify, ports, resources, scope,
    string,
};
use crate::board::Place;
use crate::board::x86_64::layout::{
    GENERATION_ID, POWER_BUTTON_LINE, SERIAL, SERIAL_LINE, SLEEP_TYPE_OFF, VIRTIO_SIZE,
};

/// A notification that a power button was pressed (ACPI 6.5, table 5.205).
const PRESSED: u8 = 0x80;

/// All of them, as the content of a DSDT.
pub(super) fn all(virtio: &[Place]) -> Vec<u8> {
    let mut devices = vec![serial(), power_button(), events(), generation_id()];
    devices.extend(virtio.iter().enumerate().map(|(number, place)| on_virtio(number, *place)));
    let power_off = list(&[integer(u64::from(SLEEP_TYPE_OFF)), integer(0), integer(0), integer(0)]);
    [scope("_SB", &devices), assign("_S5", &power_off)].concat()
}

/// Linux binds virtio-mmio to this id (drivers/virtio/virtio_mmio.c).
fn on_virtio(number: usize, place: Place) -> Vec<u8> {
    let address = u32::try_from(place.address).unwrap_or(u32::MAX);
    let size = u32::try_from(VIRTIO_SIZE).unwrap_or(u32::MAX);
    device(
        &format!("V{number:03}"),
        &[
            assign("_HID", &string("LNRO0005")),
            assign("_UID", &integer(number as u64)),
            // It sees memory as the processors do.
            assign("_CCA", &integer(1)),
            assign("_CRS", &resources(&[memory32(address, size), interrupt(place.line)])),
        ],
    )
}

fn serial() -> Vec<u8> {
    let length = u8::try_from(SERIAL.len()).unwrap_or(8);
    device(
        "COM1",
        &[
            assign("_HID", &eisa_id("PNP0501")),
            assign("_UID", &integer(0)),
            assign("_CRS", &resources(&[ports(SERIAL.start, length), interrupt(SERIAL_LINE)])),
        ],
    )
}

fn power_button() -> Vec<u8> {
    device("PWRB", &[assign("_HID", &eisa_id("PNP0C0C")), assign("_UID", &integer(0))])
}

/// The generic event device (5.6.9): its only interrupt is the power button's.
fn events() -> Vec<u8> {
    device(
        "GED",
        &[
            assign("_HID", &string("ACPI0013")),
            assign("_UID", &integer(0)),
            assign("_CRS", &resources(&[interrupt(POWER_BUTTON_LINE)])),
            method("_EVT", 1, &notify("PWRB", PRESSED)),
        ],
    )
}

/// The machine's generation id (Microsoft, "Virtual Machine Generation ID"): a number in memory that a machine
/// which was restored or copied finds changed, so that it seeds its random generator anew.
fn generation_id() -> Vec<u8> {
    let (low, high) = (GENERATION_ID & 0xffff_ffff, GENERATION_ID >> 32);
    device(
        "VGEN",
        &[
            assign("_HID", &string("MVMG0001")),
            assign("_CID", &string("VM_Gen_Counter")),
            assign("_DDN", &string("VM_Gen_Counter")),
            assign("ADDR", &list(&[integer(low), integer(high)])),
        ],
    )
}
