//! `struct virtio_net_hdr` (virtio 1.3, 5.1.6): what driver and device tell each other of a frame.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
};

use super::checksum;

/// It has the number of buffers at its end, always, as devices of virtio 1.0 and later have it.
pub(super) const SIZE: usize = 12;

/// What the driver has agreed to, as far as frames differ by it. Read, never assumed (Firecracker #4659).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The driver may leave checksums to the device.
    pub(super) checksums_are_ours: bool,
    /// The driver understands that a frame's checksum need not be looked at.
    pub(super) trusts_checksums: bool,
    /// A frame may fill several chains.
    pub(super) merges_buffers: bool,
}

impl Agreed {
    pub(super) fn from_features(features: u64) -> Self {
        let has = |bit: u32| features & 1_u64.wrapping_shl(bit) != 0;
        Self {
            checksums_are_ours: has(VIRTIO_NET_F_CSUM),
            trusts_checksums: has(VIRTIO_NET_F_GUEST_CSUM),
            merges_buffers: has(VIRTIO_NET_F_MRG_RXBUF),
        }
    }
}

/// The header of a frame for the driver, which fills so many chains.
pub(super) fn for_driver(agreed: Agreed, chains: u16) -> [u8; SIZE] {
    // The network process makes each frame here on this host, with the checksum that it should have.
    let flags = if agreed.trusts_checksums { VIRTIO_NET_HDR_F_DATA_VALID } else { 0 };
    let [low, high] = chains.to_le_bytes();
    [u8::try_from(flags).unwrap_or(0), 0, 0, 0, 0, 0, 0, 0, 0, 0, low, high]
}

/// Completes a frame as the driver's header asks; `None` when it asks for what cannot be.
pub(super) fn complete(header: [u8; SIZE], agreed: Agreed, frame: &mut [u8]) -> Option<()> {
    let [flags, _, _, _, _, _, start_low, start_high, offset_low, offset_high, ..] = header;
    let is_needed = u32::from(flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0;
    if !(is_needed && agreed.checksums_are_ours) {
        return Some(());
    }
    let start = u16::from_le_bytes([start_low, start_high]);
    let offset = u16::from_le_bytes([offset_low, offset_high]);
    checksum::complete(frame.get_mut(usize::from(start)..)?, usize::from(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Agreed = Agreed { checksums_are_ours: true, trusts_checksums: true, merges_buffers: true };

    #[test]
    fn a_driver_hears_only_what_it_agreed_to() {
        // Firecracker #4659: features were taken for granted.
        let features = |bits: &[u32]| Agreed::from_features(bits.iter().map(|bit| 1 << bit).sum());
        assert_eq!(features(&[0, 1, 15]), ALL);
        assert_eq!(features(&[2, 5, 7, 32]), Agreed::default());
        assert_eq!(for_driver(ALL, 0x102), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(for_driver(Agreed::default(), 1)[0], 0);
    }

    #[test]
    fn a_checksum_is_completed_only_where_that_was_agreed_and_lies_in_the_frame() {
        let header = [1, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0];
        let completed = |header, agreed| {
            let mut frame = [9, 9, 1, 2, 0, 0];
            complete(header, agreed, &mut frame).map(|()| frame)
        };
        assert_eq!(completed(header, ALL), Some([9, 9, 1, 2, 0xfe, 0xfd]));
        assert_eq!(completed(header, Agreed::default()), Some([9, 9, 1, 2, 0, 0]));
        for (start, offset) in [(2, 3), (5, 0), (7, 0), (2, 0xffff), (0xffff, 0xffff)] {
            let [s, t] = u16::to_le_bytes(start);
            let [o, p] = u16::to_le_bytes(offset);
            assert_eq!(completed([1, 0, 0, 0, 0, 0, s, t, o, p, 0, 0], ALL), None, "{start} {offset}");
        }
    }
}
