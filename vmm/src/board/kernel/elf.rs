//! An ELF file ("System V ABI", chapters 4 and 5; AMD64 supplement) with Xen's note of a PVH entry.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Kernel, KernelError, Protocol, field};
use crate::memory::{self, Memory};

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Linux has five.
const MOST_HEADERS: u16 = 64;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const LARGEST_NOTES: u64 = 64 * 1024;
/// XEN_ELFNOTE_PHYS32_ENTRY (Xen, public/elfnote.h).
const PVH_ENTRY: u32 = 18;
const X86_64: u16 = 62;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

pub(super) fn load(file: &File, memory: &Memory) -> Result<Kernel, KernelError> {
    let segments = segments(file)?;
    let mut end = 0;
    for segment in segments.iter().filter(|segment| segment.kind == LOAD) {
        memory::read_file(memory, segment.address, file, segment.offset, segment.file_size)?;
        // What is behind the file's part is zero, as fresh memory is.
        let last = segment.address.checked_add(segment.memory_size.max(segment.file_size));
        end = last.ok_or(KernelError::Malformed("a segment wraps around"))?.max(end);
    }
    if end == 0 {
        return Err(KernelError::Malformed("there is nothing to load"));
    }
    let entry = pvh_entry(file, &segments)?.ok_or(KernelError::NoPvhEntry)?;
    Ok(Kernel { entry, end, protocol: Protocol::Pvh })
}

fn segments(file: &File) -> Result<Vec<Segment>, KernelError> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).map_err(KernelError::Read)?;
    // 64-bit, little endian.
    let machine = field(&header, 18).map(u16::from_le_bytes);
    if field(&header, 4) != Some([2, 1]) || machine != Some(X86_64) {
        return Err(KernelError::Unknown);
    }
    let place = field(&header, 32).map(u64::from_le_bytes);
    let size = field(&header, 54).map(u16::from_le_bytes);
    let count = field(&header, 56).map(u16::from_le_bytes);
    let (Some(place), Some(count)) = (place, count) else { return Err(KernelError::Unknown) };
    if size.map(usize::from) != Some(PROGRAM_HEADER) || count > MOST_HEADERS {
        return Err(KernelError::Malformed("its program headers are of another size or number"));
    }
    let mut table = vec![0; PROGRAM_HEADER.saturating_mul(count.into())];
    file.read_exact_at(&mut table, place).map_err(KernelError::Read)?;
    Ok(table.chunks_exact(PROGRAM_HEADER).filter_map(segment).collect())
}

fn segment(header: &[u8]) -> Option<Segment> {
    let wide = |offset| field(header, offset).map(u64::from_le_bytes);
    Some(Segment {
        kind: u32::from_le_bytes(field(header, 0)?),
        offset: wide(8)?,
        address: wide(24)?,
        file_size: wide(32)?,
        memory_size: wide(40)?,
    })
}

fn pvh_entry(file: &File, segments: &[Segment]) -> Result<Option<u64>, KernelError> {
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        if segment.file_size > LARGEST_NOTES {
            return Err(KernelError::Malformed("its notes are too long"));
        }
        let mut notes = vec![0; usize::try_from(segment.file_size).unwrap_or(0)];
        file.read_exact_at(&mut notes, segment.offset).map_err(KernelError::Read)?;
        if let Some(entry) = find_entry(&notes) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Each note is the lengths of its name and its content, its type, and both, filled up to multiples of four.
fn find_entry(notes: &[u8]) -> Option<u64> {
    let mut rest = notes;
    loop {
        let length = |offset| usize::try_from(u32::from_le_bytes(field(rest, offset)?)).ok();
        let (name, content) = (length(0)?, length(4)?);
        let kind = u32::from_le_bytes(field(rest, 8)?);
        let content_at = 12_usize.checked_add(name.checked_next_multiple_of(4)?)?;
        if kind == PVH_ENTRY && rest.get(12..12_usize.checked_add(name)?)? == b"Xen\0" {
            return match content {
                4 => field(rest, content_at).map(|bytes| u32::from_le_bytes(bytes).into()),
                8 => field(rest, content_at).map(u64::from_le_bytes),
                _ => None,
            };
        }
        rest = rest.get(content_at.checked_add(content.checked_next_multiple_of(4)?)?..)?;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    /// A kernel of one segment at 1 MiB, and a note.
    pub(crate) fn image(code: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(18, &X86_64.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &2_u16.to_le_bytes());
        let mut header = |at: usize, kind: u32, offset: u64, address: u64, file: u64, memory: u64| {
            put(at, &kind.to_le_bytes());
            for (place, value) in [(8, offset), (24, address), (32, file), (40, memory)] {
                put(at + place, &value.to_le_bytes());
            }
        };
        header(64, LOAD, 0x1000, 0x10_0000, code.len() as u64, code.len() as u64 + 100);
        header(120, NOTE, 0x200, 0, 20, 20);
        put(0x200, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        put(0x20c, b"Xen\0");
        put(0x210, &0x10_0000_u32.to_le_bytes());
        image.extend(code);
        image
    }

    pub(crate) fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn memory() -> Memory {
        memory::of_size(4 << 20)
    }

    #[test]
    fn segments_are_placed_and_the_entry_is_the_notes() {
        let memory = memory();
        let code: Vec<u8> = (0..9000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let kernel = load(&file(&image(&code)), &memory).unwrap();
        let expected = Kernel { entry: 0x10_0000, end: 0x10_0000 + 9100, protocol: Protocol::Pvh };
        assert_eq!(kernel, expected);
        let mut placed = vec![0; code.len()];
        memory.read_slice(&mut placed, GuestAddress(0x10_0000)).unwrap();
        assert_eq!(placed, code);
    }

    #[test]
    fn what_cannot_be_started_is_told_apart() {
        let error = |change: fn(&mut Vec<u8>)| {
            let mut image = image(b"code");
            change(&mut image);
            load(&file(&image), &memory()).unwrap_err().to_string()
        };
        assert!(error(|image| image[18] = 183).contains("neither an x86_64 ELF file"));
        assert!(error(|image| image[0x208] = 1).contains("has no PVH entry; build it with CONFIG_PVH"));
        assert!(error(|image| image[56] = 200).contains("program headers"));
        assert!(error(|image| image[64] = 9).contains("nothing to load"));
        assert!(error(|image| image[64 + 31] = 0xff).contains("the guest has no memory from 0xff"));
    }

    proptest! {
        /// A kernel is a user's file, but a broken one costs an error and nothing else.
        #[test]
        fn any_headers_are_refused_or_loaded(at in 0_usize..200, bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            let mut image = image(&[1; 5000]);
            image[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = load(&file(&image), &memory());
        }

        #[test]
        fn any_notes_are_searched_to_their_end(notes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = find_entry(&notes);
        }
    }
}
