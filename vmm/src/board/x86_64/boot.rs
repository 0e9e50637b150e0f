//! How a kernel is told what it starts on: Xen's start information (public/arch-x86/hvm/start_info.h) or Linux's boot
//! parameters (arch/x86/include/uapi/asm/bootparam.h).

use super::layout::{
    ACPI, BOOT_PARAMETERS, BOOT_STACK, COMMAND_LINE, GAP, HIGH_MEMORY, LOW_MEMORY_END, MEMORY_MAP, MODULES,
    PAGE_TABLES, START_INFO,
};
use super::{BoardError, Boot};
use crate::board::kernel::SETUP_HEADER;
use crate::hypervisor::x86_64::{Mode, Registers};
use crate::memory::{self, Memory};

/// Kinds of memory, by the numbers of the BIOS call E820 that both protocols use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Usable = 1,
    Reserved = 2,
    Acpi = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    start: u64,
    length: u64,
    kind: Kind,
}

/// The guest's memory up to `end`, with what has a use already.
pub(super) fn map(end: u64) -> Vec<Range> {
    let range = |start: u64, end: u64, kind| Range { start, length: end.saturating_sub(start), kind };
    let mut map = vec![
        range(0, LOW_MEMORY_END.min(end), Kind::Usable),
        range(ACPI.start, ACPI.end, Kind::Acpi),
        range(ACPI.end, HIGH_MEMORY, Kind::Reserved),
        range(HIGH_MEMORY, end.min(GAP.start), Kind::Usable),
        range(GAP.end, end, Kind::Usable),
    ];
    map.retain(|range| range.length > 0);
    map
}

/// Writes the start information of a PVH kernel.
pub(super) fn pvh(memory: &Memory, entry: u64, boot: &Boot) -> Result<Registers, BoardError> {
    const MAGIC: u32 = 0x336e_c578;
    const VERSION: u32 = 1;
    let map: Vec<u8> = boot.map.iter().flat_map(pvh_range).collect();
    memory::write(memory, MEMORY_MAP, &map)?;
    if let Some((start, length)) = boot.initrd {
        let module = [start.to_le_bytes(), length.to_le_bytes(), [0; 8], [0; 8]].concat();
        memory::write(memory, MODULES, &module)?;
    }
    let mut info = Vec::new();
    for word in [MAGIC, VERSION, 0, u32::from(boot.initrd.is_some())] {
        info.extend(word.to_le_bytes());
    }
    for address in [MODULES, COMMAND_LINE, boot.rsdp, MEMORY_MAP] {
        info.extend(address.to_le_bytes());
    }
    info.extend(u32::try_from(boot.map.len()).unwrap_or(0).to_le_bytes());
    info.extend(0_u32.to_le_bytes());
    memory::write(memory, START_INFO, &info)?;
    Ok(Registers { mode: Mode::Protected, instruction_pointer: entry, rbx: START_INFO, rsi: 0, rsp: 0 })
}

fn pvh_range(range: &Range) -> Vec<u8> {
    let kind = (range.kind as u32).to_le_bytes();
    [&range.start.to_le_bytes()[..], &range.length.to_le_bytes(), &kind, &[0; 4]].concat()
}

/// Writes the parameters of a kernel of the 64-bit boot protocol, and page tables for its first steps.
pub(super) fn linux(
    memory: &Memory,
    entry: u64,
    setup_header: &[u8],
    boot: &Boot,
) -> Result<Registers, BoardError> {
    let mut parameters = vec![0; 4096];
    let mut put = |offset: usize, bytes: &[u8]| {
        for (to, from) in parameters.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
    };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(0).to_le_bytes();
    let (initrd, length) = boot.initrd.unwrap_or((0, 0));
    put(SETUP_HEADER, setup_header);
    put(0x070, &boot.rsdp.to_le_bytes());
    // A loader without a number of its own.
    put(0x210, &[0xff]);
    put(0x218, &narrow(initrd));
    put(0x21c, &narrow(length));
    put(0x228, &narrow(COMMAND_LINE));
    put(0x1e8, &[u8::try_from(boot.map.len()).unwrap_or(0)]);
    put(0x2d0, &boot.map.iter().flat_map(e820).collect::<Vec<_>>());
    memory::write(memory, BOOT_PARAMETERS, &parameters)?;
    write_page_tables(memory)?;
    let mode = Mode::Long { page_tables: PAGE_TABLES };
    Ok(Registers { mode, instruction_pointer: entry, rbx: 0, rsi: BOOT_PARAMETERS, rsp: BOOT_STACK })
}

fn e820(range: &Range) -> Vec<u8> {
    let kind = (range.kind as u32).to_le_bytes();
    [&range.start.to_le_bytes()[..], &range.length.to_le_bytes(), &kind].concat()
}

/// The first 4 GiB at their own addresses, in pages of 2 MiB (AMD64 manual, volume 2, 5.3).
fn write_page_tables(memory: &Memory) -> Result<(), BoardError> {
    const TABLE: u64 = 0x1000;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let directories = PAGE_TABLES + 2 * TABLE;
    let entries = |entries: Vec<u64>| entries.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    memory::write(memory, PAGE_TABLES, &entries(vec![(PAGE_TABLES + TABLE) | PRESENT_WRITABLE]))?;
    let pointers = [0, 1, 2, 3].map(|number: u64| directories.saturating_add(number.saturating_mul(TABLE)));
    let pointers = pointers.into_iter().map(|table| table | PRESENT_WRITABLE).collect();
    memory::write(memory, PAGE_TABLES + TABLE, &entries(pointers))?;
    let pages = (0..4 * 512).map(|number| number << 21 | PRESENT_WRITABLE | LARGE).collect();
    Ok(memory::write(memory, directories, &entries(pages))?)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    fn memory() -> Memory {
        memory::of_size(1 << 20)
    }

    fn boot() -> Boot {
        Boot { rsdp: 0xe_1234, initrd: Some((0x80_0000, 0x5678)), map: map(5 << 30) }
    }

    fn number<const N: usize>(memory: &Memory, address: u64) -> u64 {
        let mut bytes = [0; 8];
        memory.read_slice(&mut bytes[..N], GuestAddress(address)).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn all_memory_is_usable_but_what_has_a_use() {
        let usable: u64 =
            map(5 << 30).iter().filter(|range| range.kind == Kind::Usable).map(|range| range.length).sum();
        assert_eq!(usable, (5 << 30) - (GAP.end - GAP.start) - (HIGH_MEMORY - LOW_MEMORY_END));
        assert_eq!(map(256 << 20).len(), 4, "nothing above 4 GiB");
    }

    #[test]
    fn start_information_leads_to_everything() {
        let memory = memory();
        let registers = pvh(&memory, 0x100_0000, &boot()).unwrap();
        assert_eq!(number::<4>(&memory, START_INFO), 0x336e_c578);
        assert_eq!(number::<4>(&memory, START_INFO + 12), 1, "one module");
        assert_eq!(number::<8>(&memory, START_INFO + 32), 0xe_1234, "the root pointer");
        assert_eq!(number::<4>(&memory, START_INFO + 48), 5, "ranges of memory");
        assert_eq!(number::<8>(&memory, MODULES), 0x80_0000);
        assert_eq!(number::<4>(&memory, MEMORY_MAP + 24 + 16), 3, "the second range is ACPI's");
        assert_eq!(registers.rbx, START_INFO);
    }

    #[test]
    fn boot_parameters_lead_to_everything() {
        let memory = memory();
        let header = [vec![0xaa; 0x20], vec![0; 0x50]].concat();
        let registers = linux(&memory, 0x100_0200, &header, &boot()).unwrap();
        assert_eq!(number::<1>(&memory, BOOT_PARAMETERS + 0x1f1), 0xaa);
        assert_eq!(number::<4>(&memory, BOOT_PARAMETERS + 0x218), 0x80_0000);
        assert_eq!(number::<8>(&memory, BOOT_PARAMETERS + 0x70), 0xe_1234);
        assert_eq!(number::<1>(&memory, BOOT_PARAMETERS + 0x1e8), 5);
        assert_eq!(registers.mode, Mode::Long { page_tables: PAGE_TABLES });
        // The last large page of the fourth directory.
        assert_eq!(number::<8>(&memory, PAGE_TABLES + 6 * 0x1000 - 8), 2047 << 21 | 0x83);
    }
}
