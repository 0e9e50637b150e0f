//! Kernel files: any ELF and any bzImage are refused or loaded, and whatever is in memory then is the file's.
//!
//! Input: how long the initial ramdisk is (0: none), the command line (its length, then it), how long the file is, then what
//! is in it beside zeroes: pieces, each with where it lies, its length (two bytes), and its bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{Bytes, GuestAddress};
use vmm::board::kernel::{self, Kernel, Protocol};
use vmm::board::x86_64::{Contents, prepare};
use vmm::memory::Memory;

use crate::input::Input;
use crate::memory::{self, read};

const MEMORY: u64 = 32 << 20;
const LONGEST: u64 = 40 << 20;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let ramdisk = input.number() % LONGEST;
    let length = usize::from(input.byte()) * 16;
    let command_line = String::from_utf8_lossy(input.bytes(length)).into_owned();
    let file = empty_file(input.number() % LONGEST);
    while !input.is_empty() {
        let (at, length) = (input.number() % LONGEST, input.short());
        file.write_all_at(input.bytes(length.into()), at).unwrap();
    }

    let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
    let loaded = kernel::load(&file, &memory);
    if let Ok(kernel) = &loaded {
        match &kernel.protocol {
            Protocol::Pvh => is_elf(kernel, &file, &memory),
            Protocol::Linux { setup_header } => is_bzimage(kernel, setup_header, &file, &memory),
        }
    }

    let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
    let initrd = empty_file(ramdisk);
    let _ = initrd.write_all_at(b"ramdisk", 0);
    let ramdisk = initrd.metadata().unwrap().len();
    let contents =
        Contents { kernel: &file, initrd: Some(&initrd), command_line: &command_line, cpus: 1, virtio: &[] };
    let Ok(registers) = prepare(&memory, &contents) else { return };
    let kernel = loaded.expect("a kernel that cannot be loaded is started");
    assert_eq!(registers.instruction_pointer, kernel.entry);
    // The ramdisk lies behind the kernel, in memory.
    let number = |at| u64::from_le_bytes(read(&memory, at, 8).try_into().unwrap());
    let (start, length) = match &kernel.protocol {
        Protocol::Pvh => {
            let module = number(registers.rbx + 16);
            (number(module), number(module + 8))
        }
        Protocol::Linux { .. } => {
            let addresses = number(registers.rsi + 0x218);
            (addresses & 0xffff_ffff, addresses >> 32)
        }
    };
    assert_eq!(length, ramdisk);
    assert!(start >= kernel.end && start + length <= MEMORY, "{start:#x} and {length:#x}");
    assert_eq!(read(&memory, start, 7), b"ramdisk");
}

fn empty_file(length: u64) -> File {
    let file = File::from(memfd_create("kernel", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(length).unwrap();
    file
}

/// Each segment is where its header says, as far as no later one lies over it.
fn is_elf(kernel: &Kernel, file: &File, memory: &Memory) {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).unwrap();
    let table = u64::from_le_bytes(header[32..40].try_into().unwrap());
    let count = u64::from(u16::from_le_bytes([header[56], header[57]]));
    let mut segments = Vec::new();
    for number in 0..count {
        let mut bytes = [0; 56];
        file.read_exact_at(&mut bytes, table + number * 56).unwrap();
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        if bytes[..4] == [1, 0, 0, 0] {
            segments.push((field(8), field(24), field(32), field(40)));
        }
    }
    for (number, (offset, address, length, in_memory)) in segments.iter().enumerate() {
        assert!(address + length <= MEMORY && address + length.max(in_memory) <= kernel.end);
        let lies_over = |at: u64| {
            let later = &segments[number + 1..];
            later.iter().any(|(_, address, length, _)| (*address..address + length).contains(&at))
        };
        for part in (0..*length).step_by(0x1_0001).chain(length.checked_sub(1)) {
            let mut expected = [0];
            file.read_exact_at(&mut expected, offset + part).unwrap();
            let found = read(memory, address + part, 1);
            assert!(lies_over(address + part) || found == expected, "byte {part:#x} of segment {number}");
        }
    }
}

/// All behind its setup is at 16 MiB.
fn is_bzimage(kernel: &Kernel, setup_header: &[u8], file: &File, memory: &Memory) {
    let length = file.metadata().unwrap().len();
    let mut first = [0; 512];
    file.read_exact_at(&mut first, 0).unwrap();
    let sectors = if first[0x1f1] == 0 { 4 } else { u64::from(first[0x1f1]) };
    let offset = (sectors + 1) * 512;
    assert_eq!(kernel.entry, 0x100_0200);
    assert!(kernel.end >= 0x100_0000 + length - offset);
    assert!(setup_header.starts_with(&first[0x1f1..0x200]) && setup_header.len() <= 0x202 + 255 - 0x1f1);
    for part in (0..length - offset).step_by(0x1_0001) {
        let mut expected = [0];
        file.read_exact_at(&mut expected, offset + part).unwrap();
        let found: u8 = memory.read_obj(GuestAddress(0x100_0000 + part)).unwrap();
        assert_eq!(found, expected[0]);
    }
}
