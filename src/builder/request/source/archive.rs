//! Whether standard input has an archive or a Dockerfile, by its first bytes.

/// What has to be read before it can be told: one record of an archive (POSIX.1-2017, pax, "ustar Interchange Format").
pub(super) const HEAD: usize = 512;

/// How compressed archives begin: gzip, bzip2, xz, Zstandard.
const COMPRESSED: [&[u8]; 4] =
    [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
/// Where a header has its checksum, in octal.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether `head` begins an archive. A header without a name in it ("ustar") is known by its checksum.
pub(super) fn is_archive(head: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || head.get(..HEAD).is_some_and(is_header)
}

fn is_header(record: &[u8]) -> bool {
    let digits = record.get(CHECKSUM).unwrap_or_default();
    let digits = String::from_utf8_lossy(digits);
    let said = u32::from_str_radix(digits.trim_matches(['\0', ' ']), 8);
    let counted = (0_usize..).zip(record).map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte });
    said.is_ok_and(|said| said == counted.map(u32::from).sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_of_every_kind_and_nothing_else() {
        for with_magic in [true, false] {
            let mut header = if with_magic { tar::Header::new_ustar() } else { tar::Header::new_old() };
            header.set_path("Dockerfile").unwrap();
            header.set_size(3);
            header.set_cksum();
            assert!(is_archive(header.as_bytes()), "with magic: {with_magic}");
            let mut broken = header.as_bytes().to_vec();
            broken[0] ^= 1;
            assert!(!is_archive(&broken));
            assert!(!is_archive(&header.as_bytes()[..HEAD - 1]));
        }
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]) && is_archive(b"BZh9") && is_archive(b"\xfd7zXZ\0"));
        assert!(
            !is_archive(b"")
                && !is_archive("FROM scratch\n".repeat(99).as_bytes())
                && !is_archive(&[0; HEAD])
        );
    }
}
