//! A bzImage, entered by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Kernel, KernelError, Protocol, field};
use crate::memory::{self, Memory};

/// The setup header lies at this offset of the file, and of the parameters that the kernel gets.
pub(crate) const SETUP_HEADER: usize = 0x1f1;
/// Where the header ends: as far behind its jump as that says.
const JUMP: usize = 0x201;
const READ: usize = 0x290;
/// The first with which a kernel tells that it has a 64-bit entry.
const OLDEST: u16 = 0x020c;
const HAS_64_BIT_ENTRY: u16 = 1;
/// From where the kernel is placed to that entry.
const ENTRY_64: u64 = 0x200;
/// Where a kernel that can be moved is placed.
const PLACE: u64 = 0x100_0000;
const SECTOR: u64 = 512;

pub(super) fn load(file: &File, memory: &Memory) -> Result<Kernel, KernelError> {
    let mut head = [0; READ];
    file.read_exact_at(&mut head, 0).map_err(|_| KernelError::Unknown)?;
    if field(&head, 0x202) != Some(*b"HdrS") {
        return Err(KernelError::Unknown);
    }
    let short = |offset| field(&head, offset).map_or(0, u16::from_le_bytes);
    let long = |offset| field(&head, offset).map_or(0, u32::from_le_bytes);
    let protocol = short(0x206);
    if protocol < OLDEST || short(0x236) & HAS_64_BIT_ENTRY == 0 {
        return Err(KernelError::Protocol(protocol));
    }
    let [jump] = field(&head, JUMP).unwrap_or_default();
    let [sectors] = field(&head, SETUP_HEADER).unwrap_or_default();
    let setup_header = head.get(SETUP_HEADER..JUMP.saturating_add(1).saturating_add(jump.into()));
    let setup_header = setup_header.ok_or(KernelError::Malformed("its setup header is too long"))?.to_vec();
    // Zero means four, for the oldest kernels.
    let sectors = if sectors == 0 { 4 } else { u64::from(sectors) };
    let offset = (sectors.saturating_add(1)).saturating_mul(SECTOR);
    let size = file.metadata().map_err(KernelError::Read)?.len();
    let length = size.checked_sub(offset).ok_or(KernelError::Malformed("it is cut short"))?;
    memory::read_file(memory, PLACE, file, offset, length)?;
    // It says how much memory it needs to unpack itself.
    let end = PLACE.saturating_add(length.max(long(0x260).into()));
    Ok(Kernel { entry: PLACE.saturating_add(ENTRY_64), end, protocol: Protocol::Linux { setup_header } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::elf::tests::file;
    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 3 * 512];
        image[SETUP_HEADER] = 1;
        image[JUMP] = 0x6a;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x236] = 1;
        image[0x260..0x264].copy_from_slice(&0x20_0000_u32.to_le_bytes());
        image[1024] = 0xf4;
        image
    }

    fn memory() -> Memory {
        memory::of_size(32 << 20)
    }

    #[test]
    fn kernel_is_placed_behind_its_setup_and_entered_in_64_bit_mode() {
        let kernel = load(&file(&image()), &memory()).unwrap();
        assert_eq!((kernel.entry, kernel.end), (0x100_0200, 0x120_0000));
        let Protocol::Linux { setup_header } = kernel.protocol else { panic!("not a bzImage") };
        assert_eq!(setup_header.len(), 0x202 + 0x6a - SETUP_HEADER);
        assert_eq!(setup_header[0x202 - SETUP_HEADER..][..4], *b"HdrS");
    }

    #[test]
    fn others_are_refused() {
        let error = |change: fn(&mut Vec<u8>)| {
            let mut image = image();
            change(&mut image);
            load(&file(&image), &memory()).unwrap_err().to_string()
        };
        assert!(error(|image| image[0x202] = 0).contains("neither an x86_64 ELF file nor a bzImage"));
        assert!(
            error(|image| image[0x206] = 5)
                .contains("it needs version 2.12 of the boot protocol, and has 0x0205")
        );
        assert!(error(|image| image[SETUP_HEADER] = 60).contains("cut short"));
    }

    proptest! {
        #[test]
        fn any_header_is_refused_or_loaded(at in 0x1f0_usize..0x270, bytes in prop::collection::vec(any::<u8>(), 1..30)) {
            let mut image = image();
            image[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = load(&file(&image), &memory());
        }
    }
}
