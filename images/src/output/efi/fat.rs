//! The file system that firmware reads: FAT32, with one file on it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// FAT32 is what has 65,525 clusters or more (Microsoft, "FAT: General Overview"): of 512 bytes they are 32 MiB.
const SMALLEST: u64 = 34 << 20;
/// What the tables of a file system take of it, as a part of the whole, and something to spare.
const TABLES: u64 = 32;
const MIB: u64 = 1 << 20;
/// Fixed: a file system is the same when its file is. Without a clock its times are FAT's first, 1980-01-01.
const VOLUME: u32 = 0x6d76_6d00;
const LABEL: [u8; 11] = *b"MVM        ";

/// Makes the image of a file system with `program` at a path, as large as it has to be.
pub(super) fn make(program: &Path, path: &str, image: &Path) -> io::Result<()> {
    let content = super::super::size(program)?;
    let size = content.saturating_add(content / TABLES).saturating_add(SMALLEST).next_multiple_of(MIB);
    let mut file = File::options().read(true).write(true).create_new(true).open(image)?;
    file.set_len(size)?;
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).volume_id(VOLUME).volume_label(LABEL);
    format_volume(&mut file, options)?;
    let volume = FileSystem::new(&mut file, FsOptions::new())?;
    let (mut directory, mut name) = (volume.root_dir(), path);
    while let Some((first, rest)) = name.split_once('/') {
        directory = directory.create_dir(first)?;
        name = rest;
    }
    let mut copy = directory.create_file(name)?;
    io::copy(&mut File::open(program)?, &mut copy)?;
    copy.flush()?;
    drop((copy, directory));
    volume.unmount()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn the_file_comes_back_and_the_image_is_the_same_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, vec![7; 3 << 20]).unwrap();
        let images = ["one", "two"].map(|name| {
            let image = directory.path().join(name);
            make(&program, "EFI/BOOT/BOOTX64.EFI", &image).unwrap();
            image
        });
        let volume = FileSystem::new(
            File::options().read(true).write(true).open(&images[0]).unwrap(),
            FsOptions::new(),
        );
        let volume = volume.unwrap();
        assert_eq!(volume.fat_type(), FatType::Fat32);
        let mut content = Vec::new();
        volume.root_dir().open_file("efi/boot/bootx64.efi").unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, vec![7; 3 << 20]);
        drop(volume);
        // It was opened, but not written to.
        assert!(fs::read(&images[0]).unwrap() == fs::read(&images[1]).unwrap());
    }
}
