//! An initial ramdisk: the root as an archive that the kernel unpacks into memory, compressed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::rootfs::{Content, Tree, cpio};

/// Writes it to a file. Microcode comes first and uncompressed: the kernel looks for it before it can unpack anything
/// (Linux, Documentation/arch/x86/microcode.rst).
pub(super) fn make(root: &Tree, microcode: Option<&Content>, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    if let Some(code) = microcode {
        let size = io::copy(&mut code.reader(), &mut file)?;
        cpio::pad(&mut file, size)?;
    }
    // Every kernel can unpack gzip.
    let mut compressed = GzEncoder::new(file, Compression::default());
    cpio::write(root, &mut compressed)?;
    compressed.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::rootfs::Entry;

    #[test]
    fn microcode_comes_before_the_compressed_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("initrd");
        let mut root = Tree::default();
        root.put("init", Entry::file(0o755, *b"init"));
        make(&root, Some(&Content::from(*b"code!")), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let rest = bytes.strip_prefix(b"code!\0\0\0").expect("the microcode, up to a border of words");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(rest).read_to_end(&mut unpacked).unwrap();
        let mut archive = Vec::new();
        cpio::write(&root, &mut archive).unwrap();
        assert_eq!(unpacked, archive);
    }
}
