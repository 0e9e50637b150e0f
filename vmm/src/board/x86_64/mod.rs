//! A PC without anything old: memory, a kernel in it, and hardware-reduced ACPI tables that say what there is.

mod acpi;
mod boot;
pub mod layout;
mod power;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use self::layout::{
    ACPI, COMMAND_LINE, COMMAND_LINE_LENGTH, GAP, GENERATION_ID, HIGH_MEMORY, KEYBOARD_COMMAND, RESET,
    RESET_VECTOR, SERIAL, SERIAL_LINE, SLEEP_CONTROL,
};
use self::power::{AT_RESET, KeyboardController, Power};
use super::kernel::{self, Kernel, KernelError, Protocol};
use super::{Place, Wish};
use crate::devices::Line;
use crate::devices::serial::Serial;
use crate::hypervisor::x86_64::Registers;
use crate::memory::{self, Memory, MemoryError};
use crate::vcpu::Buses;

/// Why a machine cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot read the initial ramdisk")]
    Initrd(#[source] io::Error),
    #[error(
        "the guest's memory has no room for the initial ramdisk of {0} bytes behind the kernel; give it more"
    )]
    NoRoom(u64),
    #[error("the kernel's command line has {0} bytes, and may have {limit}", limit = COMMAND_LINE_LENGTH - 1)]
    CommandLine(usize),
    #[error("the kernel's command line holds a zero byte")]
    ZeroInCommandLine,
    #[error("cannot get random bytes for the machine's generation id")]
    GenerationId(#[source] io::Error),
}

/// What a machine starts with.
#[derive(Debug)]
pub struct Contents<'a> {
    pub kernel: &'a File,
    pub initrd: Option<&'a File>,
    pub command_line: &'a str,
    pub cpus: u8,
    /// The devices on virtio-mmio.
    pub virtio: &'a [Place],
}

/// What the boot protocols want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Boot {
    rsdp: u64,
    /// Address and length.
    initrd: Option<(u64, u64)>,
    map: Vec<boot::Range>,
}

/// Puts everything into memory that the guest finds there; what the first vCPU starts with.
pub fn prepare(memory: &Memory, contents: &Contents<'_>) -> Result<Registers, BoardError> {
    write_command_line(memory, contents.command_line)?;
    let kernel = kernel::load(contents.kernel, memory)?;
    let machine = acpi::Machine { cpus: contents.cpus, virtio: contents.virtio };
    let (tables, rsdp) = acpi::build(ACPI.start, &machine);
    memory::write(memory, ACPI.start, &tables)?;
    memory::write(memory, GENERATION_ID, &generation_id()?)?;
    memory::write(memory, RESET_VECTOR, &AT_RESET)?;
    let initrd = contents.initrd.map(|file| place_initrd(memory, file, &kernel)).transpose()?;
    let boot = Boot { rsdp, initrd, map: boot::map(memory_end(memory)) };
    Ok(match &kernel.protocol {
        Protocol::Pvh => boot::pvh(memory, kernel.entry, &boot)?,
        Protocol::Linux { setup_header } => boot::linux(memory, kernel.entry, setup_header, &boot)?,
    })
}

/// Adds what every machine has beside its devices on virtio-mmio: a serial port, and the registers by which it ends.
pub(crate) fn add_fixed(
    buses: &mut Buses,
    line: impl Fn(u32) -> Line,
    console: OwnedFd,
    wish: impl Fn(Wish) + Send + Sync + 'static,
) -> io::Result<()> {
    let serial = Serial::new(line(SERIAL_LINE), console)?;
    buses.ports.insert(SERIAL.start.into()..SERIAL.end.into(), Arc::new(serial));
    let wish = Arc::new(wish);
    let reset = Arc::clone(&wish);
    let ports = u64::from(SLEEP_CONTROL)..u64::from(RESET).saturating_add(1);
    buses.ports.insert(ports, Arc::new(Power::new(move |end| wish(end))));
    let controller = KeyboardController::new(move || reset(Wish::Reset));
    let port = u64::from(KEYBOARD_COMMAND);
    buses.ports.insert(port..port.saturating_add(1), Arc::new(controller));
    Ok(())
}

fn write_command_line(memory: &Memory, text: &str) -> Result<(), BoardError> {
    if text.len() as u64 >= COMMAND_LINE_LENGTH {
        return Err(BoardError::CommandLine(text.len()));
    }
    if text.contains('\0') {
        return Err(BoardError::ZeroInCommandLine);
    }
    Ok(memory::write(memory, COMMAND_LINE, text.as_bytes())?)
}

/// As high as both boot protocols reach, and so that nothing unpacks over it.
fn place_initrd(memory: &Memory, file: &File, kernel: &Kernel) -> Result<(u64, u64), BoardError> {
    const HIGHEST: u64 = 0x8000_0000;
    const PAGE: u64 = 4096;
    let length = file.metadata().map_err(BoardError::Initrd)?.len();
    let end = memory_end(memory).min(GAP.start).min(HIGHEST);
    let start = end.checked_sub(length).map(|start| start & !PAGE.saturating_sub(1));
    let start =
        start.filter(|start| *start >= kernel.end.max(HIGH_MEMORY)).ok_or(BoardError::NoRoom(length))?;
    memory::read_file(memory, start, file, 0, length)?;
    Ok((start, length))
}

/// The end of the guest's last range.
fn memory_end(memory: &Memory) -> u64 {
    memory.iter().map(|region| region.last_addr().raw_value().saturating_add(1)).max().unwrap_or(0)
}

fn generation_id() -> Result<[u8; 16], BoardError> {
    let mut id = [0; 16];
    crate::platform::random(&mut id).map_err(BoardError::GenerationId)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::hypervisor::x86_64::Mode;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn error(memory_size: u64, command_line: &str, initrd: u64) -> String {
        let memory = memory::allocate(&layout::memory(memory_size)).unwrap();
        let kernel = file(&kernel::tests_image());
        let initrd_file = tempfile::tempfile().unwrap();
        initrd_file.set_len(initrd).unwrap();
        let contents =
            Contents { kernel: &kernel, initrd: Some(&initrd_file), command_line, cpus: 1, virtio: &[] };
        prepare(&memory, &contents).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(
            error(4 << 20, "quiet", 16 << 20),
            "the guest's memory has no room for the initial ramdisk of 16777216 bytes behind the kernel; give it more"
        );
        assert_eq!(
            error(4 << 20, &"x".repeat(2048), 1),
            "the kernel's command line has 2048 bytes, and may have 2047"
        );
        assert!(error(4 << 20, "a\0b", 1).contains("zero byte"));
    }

    #[test]
    fn first_processor_starts_at_the_kernels_entry_with_the_start_information() {
        let memory = memory::allocate(&layout::memory(16 << 20)).unwrap();
        let kernel = file(&kernel::tests_image());
        let initrd = file(&[7; 5000]);
        let contents =
            Contents { kernel: &kernel, initrd: Some(&initrd), command_line: "quiet", cpus: 2, virtio: &[] };
        let registers = prepare(&memory, &contents).unwrap();
        assert_eq!(registers.mode, Mode::Protected);
        assert_eq!((registers.instruction_pointer, registers.rbx), (0x10_0000, layout::START_INFO));
    }

    /// The address that a guest computes from `Name (ADDR, Package () { low, high })` of the device VGEN.
    fn generation_id_in_the_tables(memory: &Memory) -> u64 {
        let mut tables = vec![0; usize::try_from(ACPI.end - ACPI.start).unwrap()];
        memory.read_slice(&mut tables, GuestAddress(ACPI.start)).unwrap();
        let behind = |bytes: &[u8], name: &[u8]| {
            let start = bytes.windows(name.len()).position(|window| window == name).unwrap();
            bytes[start + name.len()..].to_vec()
        };
        let address = behind(&behind(&tables, b"VGEN"), b"\x08ADDR");
        // A package of nine bytes with two elements: a number of 32 bits, and zero.
        assert_eq!((&address[..4], address[8]), (&[0x12, 8, 2, 0x0c][..], 0));
        u32::from_le_bytes(address[4..8].try_into().unwrap()).into()
    }

    #[test]
    fn each_machine_has_a_generation_id_of_its_own_where_the_tables_say() {
        let ids = [(); 2].map(|()| {
            let memory = memory::allocate(&layout::memory(16 << 20)).unwrap();
            let kernel = file(&kernel::tests_image());
            let contents =
                Contents { kernel: &kernel, initrd: None, command_line: "quiet", cpus: 1, virtio: &[] };
            prepare(&memory, &contents).unwrap();
            let at = GuestAddress(generation_id_in_the_tables(&memory));
            let mut id = [[0; 8]; 2];
            memory.read_slice(id.as_flattened_mut(), at).unwrap();
            id
        });
        let [[low, high], [other_low, other_high]] = ids;
        assert!(low != other_low && high != other_high, "{ids:x?}");
    }
}
