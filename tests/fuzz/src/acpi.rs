//! The ACPI tables of any board, read as a guest reads them: from the registers and the memory that it starts with.
//!
//! Input: how many processors, how many devices; for each of these 0 (it stands where the board has it), or 1, an address
//! and a line.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use vmm::board::Place;
use vmm::board::x86_64::layout::virtio;
use vmm::board::x86_64::{Contents, prepare};
use vmm::memory::Memory;

use crate::input::Input;
use crate::memory::{self, read};

const MEMORY: u64 = 4 << 20;
/// Where tables may lie.
const WINDOW: std::ops::Range<u64> = 0xe_0000..0xf_0000;
const MOST_DEVICES: u8 = 16;
/// Serial port, power button, events, generation id.
const OTHERS: usize = 4;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let cpus = input.byte();
    let places: Vec<Place> = (0..input.below(MOST_DEVICES + 1))
        .map(|number| match input.flag() {
            false => virtio(number.into()).unwrap(),
            true => Place { address: u64::from(input.number() as u32), line: input.number() as u32 },
        })
        .collect();
    let tables = tables(cpus, &places);
    let names: Vec<&[u8]> = tables.iter().map(|table| &table[..4]).collect();
    assert_eq!(names, [b"XSDT", b"FACP", b"APIC", b"DSDT"]);
    processors(&tables[2], cpus);
    let mut devices = Vec::new();
    terms(&tables[3][36..], &mut devices);
    assert_eq!(devices.len(), OTHERS + places.len());
    for (place, resources) in places.iter().zip(&devices[OTHERS..]) {
        // Memory32Fixed and Interrupt (ACPI 6.5, 6.4.3.4 and 6.4.3.6), then the end.
        assert_eq!(resources[4..8], (place.address as u32).to_le_bytes());
        assert_eq!(resources[17..21], place.line.to_le_bytes());
        assert_eq!((resources.len(), resources[21]), (23, 0x79));
    }
}

/// The tables that a board's guest finds, each checked by itself: XSDT, FADT, MADT, DSDT.
#[must_use]
pub fn tables(cpus: u8, places: &[Place]) -> Vec<Vec<u8>> {
    let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
    let kernel = kernel();
    let contents = Contents { kernel: &kernel, initrd: None, command_line: "", cpus, virtio: places };
    let registers = prepare(&memory, &contents).unwrap();
    let root = wide(&read(&memory, registers.rbx + 32, 8));
    assert!(WINDOW.contains(&root));
    let root = read(&memory, root, 36);
    assert_eq!((&root[..8], sum(&root[..20]), sum(&root)), (&b"RSD PTR "[..], 0, 0));
    let first = wide(&root[24..]);
    let mut found = vec![(first, table(&memory, first))];
    let entries: Vec<u64> = found[0].1[36..].chunks(8).map(wide).collect();
    found.extend(entries.iter().map(|at| (*at, table(&memory, *at))));
    let dsdt = wide(&found[1].1[140..]);
    found.push((dsdt, table(&memory, dsdt)));
    let mut places: Vec<_> = found.iter().map(|(at, table)| *at..at + table.len() as u64).collect();
    places.sort_by_key(|place| place.start);
    assert!(places.windows(2).all(|two| two[0].end <= two[1].start), "tables overlap");
    found.into_iter().map(|(_, table)| table).collect()
}

fn table(memory: &Memory, at: u64) -> Vec<u8> {
    let length = u32::from_le_bytes(read(memory, at + 4, 4).try_into().unwrap());
    assert!(WINDOW.contains(&at) && at + u64::from(length) <= WINDOW.end && at.is_multiple_of(16));
    let table = read(memory, at, length as usize);
    assert_eq!(sum(&table), 0, "{:?}", &table[..4]);
    table
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn wide(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// Each has a number of its own, and all are there (5.2.12).
fn processors(madt: &[u8], cpus: u8) {
    let mut rest = &madt[44..];
    let mut count = 0;
    while let [kind, length, ..] = *rest {
        let (entry, behind) = rest.split_at(length.into());
        if kind == 0 {
            assert_eq!(entry[2..], [count, count, 1, 0, 0, 0]);
            count += 1;
        }
        rest = behind;
    }
    assert_eq!(count, cpus);
}

/// Reads machine language (20.2) to its end; of each device its resources.
fn terms(mut code: &[u8], devices: &mut Vec<Vec<u8>>) {
    while let [opcode, rest @ ..] = code {
        code = match *opcode {
            // Name
            0x08 => data(&rest[4..], &mut |buffer| {
                if rest.starts_with(b"_CRS") {
                    *devices.last_mut().unwrap() = buffer.to_vec();
                }
            }),
            // Scope
            0x10 => {
                let (inner, behind) = package(rest);
                terms(&inner[4..], devices);
                behind
            }
            // Method
            0x14 => {
                let (inner, behind) = package(rest);
                terms(&inner[5..], devices);
                behind
            }
            // Device
            0x5b => {
                assert_eq!(rest[0], 0x82);
                let (inner, behind) = package(&rest[1..]);
                devices.push(Vec::new());
                terms(&inner[4..], devices);
                behind
            }
            // Notify
            0x86 => data(&rest[4..], &mut |_| {}),
            other => panic!("{other:#x} is no term that is used here"),
        };
    }
}

/// What is behind a data object; `take` gets the content of buffers.
fn data<'a>(code: &'a [u8], take: &mut dyn FnMut(&[u8])) -> &'a [u8] {
    let (opcode, rest) = code.split_first().unwrap();
    match opcode {
        0x00 | 0x01 => rest,
        0x0a => &rest[1..],
        0x0b => &rest[2..],
        0x0c => &rest[4..],
        0x0e => &rest[8..],
        0x0d => &rest[rest.iter().position(|byte| *byte == 0).unwrap() + 1..],
        0x11 => {
            let (inner, behind) = package(rest);
            let content = data(inner, &mut |_| {});
            assert_eq!(inner[..inner.len() - content.len()], [0x0a, content.len() as u8]);
            take(content);
            behind
        }
        0x12 => {
            let (inner, behind) = package(rest);
            let (count, elements) = inner.split_first().unwrap();
            let left = (0..*count).fold(elements, |left, _| data(left, take));
            assert!(left.is_empty());
            behind
        }
        other => panic!("{other:#x} is no data that is used here"),
    }
}

/// What a length counts, and what is behind it (20.2.4).
fn package(code: &[u8]) -> (&[u8], &[u8]) {
    let follow = usize::from(code[0] >> 6);
    let mut length = usize::from(if follow == 0 { code[0] } else { code[0] & 0xf });
    for (number, byte) in code[1..=follow].iter().enumerate() {
        length |= usize::from(*byte) << (4 + 8 * number);
    }
    let (inner, behind) = code.split_at(length);
    (&inner[follow + 1..], behind)
}

/// An ELF of nothing but Xen's note of its entry.
fn kernel() -> File {
    let mut elf = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62_u16.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    for (at, kind, offset, address, size) in
        [(64, 1_u32, 0x800, 0x10_0000_u64, 0x100), (120, 4, 0x200, 0, 20)]
    {
        put(at, &kind.to_le_bytes());
        for (field, value) in [(8, offset), (24, address), (32, size), (40, size)] {
            put(at + field, &u64::to_le_bytes(value));
        }
    }
    put(0x200, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(0x20c, b"Xen\0");
    put(0x210, &0x10_0000_u32.to_le_bytes());
    let file = File::from(memfd_create("kernel", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&elf, 0).unwrap();
    file
}
