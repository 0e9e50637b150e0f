//! What the driver wants of a disk (virtio 1.3, 5.2.6), checked once: a request that is made can be carried out.

use std::io::Read;
use std::ops::Range;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

/// The unit of every number of sectors.
pub(super) const SECTOR: u64 = 512;
/// Ranges that one discard may have.
pub(super) const MOST_RANGES: u32 = 16;
/// Sectors that one of them may name: 1 GiB.
pub(super) const MOST_SECTORS: u32 = 1 << 21;
const HEADER: usize = 16;
/// `struct virtio_blk_discard_write_zeroes`: first sector, number of sectors, flags.
const RANGE: usize = 16;
/// The only flag: zeroes may become holes.
const UNMAP: u32 = 1;

/// Bytes of the disk are counted, not sectors; all of them are on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Into the driver's buffers.
    Read(Range<u64>),
    /// From the driver's buffers.
    Write(Range<u64>),
    Flush,
    /// The disk's name.
    Identify,
    Discard(Vec<Range<u64>>),
    WriteZeroes(Vec<Zeroes>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zeroes {
    pub(super) range: Range<u64>,
    pub(super) may_unmap: bool,
}

/// Why there is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It cannot be done as it is said.
    Wrong,
    /// It is not offered.
    Unsupported,
}

/// What is known of the disk, and of the buffers beside the request's header and status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) disk: u64,
    pub(super) is_read_only: bool,
    pub(super) to_fill: u64,
    pub(super) filled: u64,
}

impl Request {
    /// Reads the header, and the ranges where there are some.
    pub(super) fn read(from: &mut impl Read, limits: Limits) -> Result<Self, Refused> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).map_err(|_| Refused::Wrong)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector));
        let filled = limits.filled.checked_sub(HEADER as u64).ok_or(Refused::Wrong)?;
        let range = |length| bytes(sector, length, limits.disk);
        let changes = matches!(kind, VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES);
        if changes && limits.is_read_only {
            return Err(Refused::Wrong);
        }
        match kind {
            VIRTIO_BLK_T_IN => Ok(Self::Read(range(limits.to_fill)?)),
            VIRTIO_BLK_T_OUT => Ok(Self::Write(range(filled)?)),
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID => Ok(Self::Identify),
            VIRTIO_BLK_T_DISCARD => {
                let ranges = ranges(from, filled, limits.disk)?;
                // A discard has no flags (5.2.6.1).
                ranges
                    .into_iter()
                    .map(|(range, flags)| if flags == 0 { Ok(range) } else { Err(Refused::Unsupported) })
                    .collect::<Result<_, _>>()
                    .map(Self::Discard)
            }
            VIRTIO_BLK_T_WRITE_ZEROES => {
                let ranges = ranges(from, filled, limits.disk)?;
                let zeroes = |(range, flags)| match flags {
                    0 | UNMAP => Ok(Zeroes { range, may_unmap: flags == UNMAP }),
                    _ => Err(Refused::Unsupported),
                };
                ranges.into_iter().map(zeroes).collect::<Result<_, _>>().map(Self::WriteZeroes)
            }
            _ => Err(Refused::Unsupported),
        }
    }
}

/// Bytes of a disk of `disk` bytes: `length` from `sector` on, whole sectors.
fn bytes(sector: u64, length: u64, disk: u64) -> Result<Range<u64>, Refused> {
    let start = sector.checked_mul(SECTOR).ok_or(Refused::Wrong)?;
    let end = start.checked_add(length).ok_or(Refused::Wrong)?;
    if end > disk || !length.is_multiple_of(SECTOR) { Err(Refused::Wrong) } else { Ok(start..end) }
}

fn ranges(from: &mut impl Read, length: u64, disk: u64) -> Result<Vec<(Range<u64>, u32)>, Refused> {
    let count = length.checked_div(RANGE as u64).unwrap_or(0);
    if !length.is_multiple_of(RANGE as u64) || count == 0 || count > u64::from(MOST_RANGES) {
        return Err(Refused::Wrong);
    }
    let mut found = Vec::new();
    for _ in 0..count {
        let mut range = [0; RANGE];
        from.read_exact(&mut range).map_err(|_| Refused::Wrong)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        if sectors > MOST_SECTORS {
            return Err(Refused::Wrong);
        }
        let length = u64::from(sectors).saturating_mul(SECTOR);
        found.push((bytes(sector, length, disk)?, u32::from_le_bytes(flags)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DISK: u64 = 1 << 20;

    fn request(kind: u32, sector: u64, rest: &[u8], to_fill: u64) -> Result<Request, Refused> {
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes(), rest].concat();
        let filled = bytes.len() as u64;
        Request::read(&mut &bytes[..], Limits { disk: DISK, is_read_only: false, to_fill, filled })
    }

    fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    }

    #[test]
    fn reads_and_writes_are_of_whole_sectors_on_the_disk() {
        assert_eq!(request(VIRTIO_BLK_T_IN, 2, &[], 1024), Ok(Request::Read(1024..2048)));
        assert_eq!(request(VIRTIO_BLK_T_OUT, 2, &[0; 512], 0), Ok(Request::Write(1024..1536)));
        assert_eq!(request(VIRTIO_BLK_T_IN, 2047, &[], 512), Ok(Request::Read(DISK - 512..DISK)));
        for (sector, length) in [(2047, 1024), (0, 100), (2048, 512), (u64::MAX, 512), (u64::MAX / 512, 512)]
        {
            assert_eq!(
                request(VIRTIO_BLK_T_IN, sector, &[], length),
                Err(Refused::Wrong),
                "{sector} {length}"
            );
        }
    }

    #[test]
    fn zeroes_beyond_the_last_sector_are_refused_however_they_are_counted() {
        // Cloud Hypervisor #8388: the sum of sector and count overflowed.
        for (sector, count) in
            [(0, 2049), (2048, 1), (u64::MAX, 1), (u64::MAX / 512, u32::MAX), (1, u32::MAX)]
        {
            for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
                assert_eq!(
                    request(kind, 0, &range(sector, count, 0), 0),
                    Err(Refused::Wrong),
                    "{sector} {count}"
                );
            }
        }
        let zeroes = Zeroes { range: 512..1536, may_unmap: true };
        assert_eq!(
            request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(1, 2, UNMAP), 0),
            Ok(Request::WriteZeroes(vec![zeroes]))
        );
        let both = [range(0, 1, 0), range(4, 4, 0)].concat();
        assert_eq!(
            request(VIRTIO_BLK_T_DISCARD, 0, &both, 0),
            Ok(Request::Discard(vec![0..512, 2048..4096]))
        );
    }

    #[test]
    fn what_is_not_offered_is_told_from_what_is_wrong() {
        assert_eq!(request(77, 0, &[], 0), Err(Refused::Unsupported));
        assert_eq!(request(VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, UNMAP), 0), Err(Refused::Unsupported));
        assert_eq!(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, 1, 2), 0), Err(Refused::Unsupported));
        assert_eq!(request(VIRTIO_BLK_T_DISCARD, 0, &[0; 17], 0), Err(Refused::Wrong));
        let large = Limits { disk: 1 << 40, is_read_only: false, to_fill: 0, filled: 32 };
        for (sectors, is_taken) in [(MOST_SECTORS, true), (MOST_SECTORS + 1, false)] {
            let bytes = [&VIRTIO_BLK_T_DISCARD.to_le_bytes()[..], &[0; 12], &range(0, sectors, 0)].concat();
            assert_eq!(Request::read(&mut &bytes[..], large).is_ok(), is_taken, "{sectors}");
        }
        assert_eq!(request(VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 0).repeat(17), 0), Err(Refused::Wrong));
        let short = Limits { disk: DISK, is_read_only: false, to_fill: 0, filled: 8 };
        assert_eq!(Request::read(&mut &[0; 8][..], short), Err(Refused::Wrong));
    }

    #[test]
    fn nothing_changes_a_disk_that_is_read_only() {
        for kind in [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            let bytes = [&kind.to_le_bytes()[..], &[0; 12], &range(0, 1, 0)].concat();
            let limits = Limits { disk: DISK, is_read_only: true, to_fill: 0, filled: bytes.len() as u64 };
            assert_eq!(Request::read(&mut &bytes[..], limits), Err(Refused::Wrong));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_on_the_disk(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u32..15, sector in 0_u64..5000, to_fill in 0_u64..5000) {
            let mut bytes = bytes;
            if bytes.len() >= 16 {
                bytes[..4].copy_from_slice(&kind.to_le_bytes());
                bytes[8..16].copy_from_slice(&sector.to_le_bytes());
            }
            let limits = Limits { disk: DISK, is_read_only: false, to_fill, filled: bytes.len() as u64 };
            let ranges = match Request::read(&mut &bytes[..], limits) {
                Ok(Request::Read(range) | Request::Write(range)) => vec![range],
                Ok(Request::Discard(ranges)) => ranges,
                Ok(Request::WriteZeroes(zeroes)) => zeroes.into_iter().map(|zeroes| zeroes.range).collect(),
                _ => vec![],
            };
            for range in ranges {
                prop_assert!(range.start <= range.end && range.end <= DISK);
            }
        }
    }
}
