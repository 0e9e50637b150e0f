//! A unified kernel image: systemd's stub, with the kernel and what it is told as sections behind its own (the UAPI
//! Group's specification "Unified Kernel Image"; the format is Microsoft's "PE Format").

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::mem::size_of;
use std::path::{Path, PathBuf};

use object::LittleEndian as LE;
use object::pe::{IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ, ImageNtHeaders64, ImageSectionHeader};
use object::pod;
use object::read::pe::PeFile64;
use object::{U16, U32};

/// A section that is added.
pub(super) struct Section {
    /// At most 8 bytes.
    pub(super) name: &'static str,
    pub(super) content: Content,
}

pub(super) enum Content {
    Text(String),
    File(PathBuf),
}

impl Content {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::Text(text) => Ok(text.len() as u64),
            Self::File(path) => super::super::size(path),
        }
    }

    fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Text(text) => Box::new(text.as_bytes()),
            Self::File(path) => Box::new(File::open(path)?),
        })
    }
}

/// Whether firmware can start a file: whether it is a program as firmware has them.
pub(super) fn is_one(path: &Path) -> io::Result<bool> {
    let head = fs::read(path)?;
    Ok(PeFile64::parse(head.as_slice()).is_ok())
}

/// Writes the stub with the sections behind it.
pub(super) fn make(stub: &Path, sections: &[Section], to: &Path) -> io::Result<()> {
    let mut bytes = fs::read(stub)?;
    let mut layout = Layout::of(&bytes)?;
    // Behind everything that is there, at a border that all sections keep.
    let end = (bytes.len() as u64).next_multiple_of(layout.file_alignment.into());
    bytes.resize(usize::try_from(end).map_err(|_| malformed("it is too long"))?, 0);
    let mut headers = Vec::new();
    let mut at = end;
    for section in sections {
        let size = section.content.size()?;
        headers.push(layout.add(section.name, size, at)?);
        at = at.saturating_add(size).next_multiple_of(layout.file_alignment.into());
    }
    layout.patch(&mut bytes, &headers)?;
    let mut file = BufWriter::new(File::create(to)?);
    file.write_all(&bytes)?;
    for section in sections {
        let size = io::copy(&mut section.content.reader()?, &mut file)?;
        let padding = size.next_multiple_of(layout.file_alignment.into()).saturating_sub(size);
        io::copy(&mut io::repeat(0).take(padding), &mut file)?;
    }
    file.flush()
}

/// Where things are in a program, and where the next section may go.
struct Layout {
    /// Of the headers behind the signature of MS-DOS.
    nt_headers: usize,
    /// Behind the last section's header.
    next_header: usize,
    /// Where the first section's content may begin: headers have to end before it.
    headers_end: usize,
    section_alignment: u32,
    file_alignment: u32,
    /// Behind the last section in memory.
    memory_end: u32,
    sections: u16,
}

impl Layout {
    fn of(bytes: &[u8]) -> io::Result<Self> {
        let file = PeFile64::parse(bytes).map_err(io::Error::other)?;
        let optional = &file.nt_headers().optional_header;
        let nt_headers = usize::try_from(file.dos_header().nt_headers_offset()).unwrap_or(usize::MAX);
        let ends = file
            .section_table()
            .iter()
            .map(|section| section.virtual_address.get(LE).saturating_add(section.virtual_size.get(LE)));
        let sections = file.nt_headers().file_header.number_of_sections.get(LE);
        // The headers' signature and the file's header come before the optional one, and the sections' behind it.
        let next_header = nt_headers
            .saturating_add(size_of::<u32>())
            .saturating_add(size_of::<object::pe::ImageFileHeader>())
            .saturating_add(file.nt_headers().file_header.size_of_optional_header.get(LE).into())
            .saturating_add(usize::from(sections).saturating_mul(size_of::<ImageSectionHeader>()));
        let (section_alignment, file_alignment) =
            (optional.section_alignment.get(LE), optional.file_alignment.get(LE));
        if section_alignment == 0 || file_alignment == 0 {
            return Err(malformed("its sections have no alignment"));
        }
        Ok(Self {
            nt_headers,
            next_header,
            headers_end: usize::try_from(optional.size_of_headers.get(LE)).unwrap_or(usize::MAX),
            section_alignment,
            file_alignment,
            memory_end: ends.max().unwrap_or_default(),
            sections,
        })
    }

    /// The header of one more section, whose content lies at `at`.
    fn add(&mut self, name: &str, size: u64, at: u64) -> io::Result<ImageSectionHeader> {
        let too_large = || malformed("what is put into it makes it larger than 4 GiB");
        let size = u32::try_from(size).map_err(|_| too_large())?;
        let at = u32::try_from(at).map_err(|_| too_large())?;
        let address =
            self.memory_end.checked_next_multiple_of(self.section_alignment).ok_or_else(too_large)?;
        self.memory_end = address.checked_add(size).ok_or_else(too_large)?;
        self.sections = self.sections.saturating_add(1);
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        let none = U32::new(LE, 0);
        Ok(ImageSectionHeader {
            name: bytes,
            virtual_size: U32::new(LE, size),
            virtual_address: U32::new(LE, address),
            size_of_raw_data: U32::new(
                LE,
                size.checked_next_multiple_of(self.file_alignment).ok_or_else(too_large)?,
            ),
            pointer_to_raw_data: U32::new(LE, at),
            pointer_to_relocations: none,
            pointer_to_linenumbers: none,
            number_of_relocations: U16::new(LE, 0),
            number_of_linenumbers: U16::new(LE, 0),
            characteristics: U32::new(LE, IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ),
        })
    }

    /// Writes the sections' headers, and what the others say of them.
    fn patch(&self, bytes: &mut [u8], headers: &[ImageSectionHeader]) -> io::Result<()> {
        let added = pod::bytes_of_slice(headers);
        let end = self.next_header.saturating_add(added.len());
        let room = bytes.get_mut(self.next_header..end).filter(|_| end <= self.headers_end);
        room.ok_or_else(|| malformed("it has no room for more sections"))?.copy_from_slice(added);
        let nt_headers = bytes.get_mut(self.nt_headers..).unwrap_or_default();
        let (nt_headers, _) = pod::from_bytes_mut::<ImageNtHeaders64>(nt_headers)
            .map_err(|()| malformed("its headers are cut short"))?;
        nt_headers.file_header.number_of_sections = U16::new(LE, self.sections);
        let size = self.memory_end.checked_next_multiple_of(self.section_alignment);
        let size = size.ok_or_else(|| malformed("it is larger than 4 GiB"))?;
        nt_headers.optional_header.size_of_image.set(LE, size);
        // Of a program that is not signed nobody checks it.
        nt_headers.optional_header.check_sum.set(LE, 0);
        Ok(())
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the stub cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection};

    use super::*;

    const HEADERS: usize = 0x200;

    /// A program of one section, whose headers end at `headers_end`.
    fn stub(headers_end: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS + 0x200];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"MZ");
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0\x64\x86\x01\0");
        let optional = 0x40 + 24;
        put(0x40 + 20, &112_u16.to_le_bytes());
        put(optional, &0x20b_u16.to_le_bytes());
        put(optional + 32, &0x1000_u32.to_le_bytes());
        put(optional + 36, &0x200_u32.to_le_bytes());
        put(optional + 56, &0x2000_u32.to_le_bytes());
        put(optional + 60, &headers_end.to_le_bytes());
        let section = optional + 112;
        put(section, b".text\0\0\0");
        for (number, field) in [0x200_u32, 0x1000, 0x200, 0x200].into_iter().enumerate() {
            put(section + 8 + 4 * number, &field.to_le_bytes());
        }
        put(HEADERS, &[0xf4; 0x200]);
        bytes
    }

    fn made(stub: &[u8], sections: &[Section]) -> io::Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("stub"), directory.path().join("program"));
        fs::write(&from, stub).unwrap();
        make(&from, sections, &to).map(|()| fs::read(to).unwrap())
    }

    #[test]
    fn sections_lie_behind_those_of_the_stub() {
        let kernel = tempfile::NamedTempFile::new().unwrap();
        fs::write(kernel.path(), vec![7; 0x1801]).unwrap();
        let sections = [
            Section { name: ".cmdline", content: Content::Text("quiet".to_owned()) },
            Section { name: ".linux", content: Content::File(kernel.path().to_owned()) },
        ];
        let bytes = made(&stub(0x200), &sections).unwrap();
        let file = PeFile64::parse(bytes.as_slice()).unwrap();
        let found: Vec<_> = file
            .sections()
            .map(|section| (section.name().unwrap().to_owned(), section.address(), section.data().unwrap()))
            .collect();
        let kernel = vec![7; 0x1801];
        let expected = [
            (".text", 0x1000, [0xf4; 0x200].as_slice()),
            (".cmdline", 0x2000, b"quiet"),
            (".linux", 0x3000, kernel.as_slice()),
        ];
        assert_eq!(found, expected.map(|(name, address, data)| (name.to_owned(), address, data)));
        // The last ends at 0x4801 in memory, and at a border of 0x200 in the file.
        assert_eq!(file.nt_headers().optional_header.size_of_image.get(LE), 0x5000);
        assert_eq!(bytes.len(), 0x400 + 0x200 + 0x1a00);
    }

    #[test]
    fn a_stub_that_cannot_take_them_is_refused() {
        let section = || [Section { name: ".osrel", content: Content::Text(String::new()) }];
        let error = made(&stub(0xf0), &section()).unwrap_err().to_string();
        assert_eq!(error, "the stub cannot be used: it has no room for more sections");
        assert!(made(b"MZ", &section()).is_err());
    }

    #[test]
    fn only_programs_are_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, expected) in [(stub(0x200), true), (b"\x7fELF".repeat(32), false)] {
            fs::write(file.path(), bytes).unwrap();
            assert_eq!(is_one(file.path()).unwrap(), expected);
        }
    }
}
