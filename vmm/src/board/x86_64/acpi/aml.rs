//! ACPI's machine language, as much of it as a table of devices needs (ACPI 6.5, 20.2).

/// A path of one name, four characters; short ones are filled with `_`.
fn name(text: &str) -> [u8; 4] {
    let mut name = [b'_'; 4];
    for (to, from) in name.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    name
}

/// What stands behind a length of its own (20.2.4): the length counts itself too.
fn package(content: &[u8]) -> Vec<u8> {
    // One byte holds up to 63; two 12 bits, three 20 bits, four 28, the first byte telling how many follow.
    let mut length = content.len() + 1;
    let mut bytes = Vec::new();
    if length < 1 << 6 {
        bytes.push(low_byte(length));
    } else {
        let follow = if length + 1 < 1 << 12 {
            1
        } else if length + 2 < 1 << 20 {
            2
        } else {
            3
        };
        length += follow;
        bytes.push(low_byte(follow << 6 | length & 0xf));
        bytes.extend((0..follow).map(|number| low_byte(length >> (4 + 8 * number))));
    }
    bytes.extend_from_slice(content);
    bytes
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// Something with an opcode, a length, a name and what belongs to it.
fn named_block(opcode: &[u8], path: &str, content: &[&[u8]]) -> Vec<u8> {
    let inner = [&name(path)[..], &content.concat()].concat();
    [opcode, &package(&inner)].concat()
}

/// `Scope (path) { ... }`.
pub(super) fn scope(path: &str, content: &[Vec<u8>]) -> Vec<u8> {
    named_block(&[0x10], path, &[&content.concat()])
}

pub(super) fn device(path: &str, content: &[Vec<u8>]) -> Vec<u8> {
    named_block(&[0x5b, 0x82], path, &[&content.concat()])
}

/// `Name (path, value)`.
pub(super) fn assign(path: &str, value: &[u8]) -> Vec<u8> {
    [&[0x08][..], &name(path), value].concat()
}

/// `Method (path, arguments, Serialized) { ... }`.
pub(super) fn method(path: &str, arguments: u8, content: &[u8]) -> Vec<u8> {
    named_block(&[0x14], path, &[&[arguments & 7 | 1 << 3], content])
}

/// `Notify (path, value)`.
pub(super) fn notify(path: &str, value: u8) -> Vec<u8> {
    [&[0x86][..], &name(path), &integer(u64::from(value))].concat()
}

pub(super) fn integer(value: u64) -> Vec<u8> {
    match value {
        0 => vec![0x00],
        1 => vec![0x01],
        2..=0xff => [&[0x0a][..], &value.to_le_bytes()[..1]].concat(),
        0x100..=0xffff => [&[0x0b][..], &value.to_le_bytes()[..2]].concat(),
        0x1_0000..=0xffff_ffff => [&[0x0c][..], &value.to_le_bytes()[..4]].concat(),
        _ => [&[0x0e][..], &value.to_le_bytes()].concat(),
    }
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [&[0x0d][..], text.as_bytes(), &[0]].concat()
}

/// `Package () { ... }`, of at most 255 elements.
pub(super) fn list(elements: &[Vec<u8>]) -> Vec<u8> {
    let count = u8::try_from(elements.len()).unwrap_or(u8::MAX);
    [&[0x12][..], &package(&[&[count][..], &elements.concat()].concat())].concat()
}

/// The number of an EISA id such as `PNP0501` (19.3.4): three letters of five bits, four hexadecimal digits.
pub(super) fn eisa_id(id: &str) -> Vec<u8> {
    let bytes = id.as_bytes();
    let letters = bytes.iter().take(3).fold(0_u32, |sum, byte| sum << 5 | u32::from(byte & 0x1f));
    let digits = id.get(3..).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    // The number is big-endian in the table.
    [&[0x0c][..], &(letters << 16 | digits).to_be_bytes()].concat()
}

/// `ResourceTemplate () { ... }` out of descriptors.
pub(super) fn resources(descriptors: &[Vec<u8>]) -> Vec<u8> {
    // Ends with an end tag whose checksum is not looked at (6.4.2.9).
    let content = [&descriptors.concat()[..], &[0x79, 0]].concat();
    let size = integer(u64::try_from(content.len()).unwrap_or(u64::MAX));
    [&[0x11][..], &package(&[&size[..], &content].concat())].concat()
}

/// `Memory32Fixed (ReadWrite, address, size)` (6.4.3.4).
pub(super) fn memory32(address: u32, size: u32) -> Vec<u8> {
    [&[0x86, 9, 0, 1][..], &address.to_le_bytes(), &size.to_le_bytes()].concat()
}

/// `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { line }` (6.4.3.6).
pub(super) fn interrupt(line: u32) -> Vec<u8> {
    [&[0x89, 6, 0, 0b11, 1][..], &line.to_le_bytes()].concat()
}

/// `IO (Decode16, first, first, 1, length)` (6.4.2.5).
pub(super) fn ports(first: u16, length: u8) -> Vec<u8> {
    let first = first.to_le_bytes();
    [&[0x47, 1][..], &first, &first, &[1, length]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        assert_eq!(integer(0), [0]);
        assert_eq!(integer(1), [1]);
        assert_eq!(integer(0x80), [0x0a, 0x80]);
        assert_eq!(integer(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(integer(0xd000_0000), [0x0c, 0, 0, 0, 0xd0]);
        assert_eq!(integer(1 << 40).len(), 9);
    }

    #[test]
    fn lengths_count_themselves_and_grow_with_what_they_measure() {
        assert_eq!(package(&[0; 62])[0], 63, "one byte up to 63");
        assert_eq!(package(&[0; 63])[..2], [0x41, 0x04], "65 in two bytes");
        let long = package(&vec![0; 5000]);
        let length = usize::from(long[0] & 0xf) | usize::from(long[1]) << 4 | usize::from(long[2]) << 12;
        assert_eq!((long[0] >> 6, length), (2, long.len()));
    }

    #[test]
    fn eisa_ids_are_packed() {
        // The specification's own example (19.3.4): PNP0C09 is 0x090cd041 in memory order.
        assert_eq!(eisa_id("PNP0C09"), [0x0c, 0x41, 0xd0, 0x0c, 0x09]);
    }
}
