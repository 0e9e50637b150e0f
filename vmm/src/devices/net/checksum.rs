//! The Internet checksum (RFC 1071), which a driver may leave to its device (virtio 1.3, 5.1.6.2).

/// Completes the checksum at `offset` of what it covers. The driver has put the sum of the pseudo header there. `None` when
/// there is no such place.
pub(super) fn complete(covered: &mut [u8], offset: usize) -> Option<()> {
    let place = offset..offset.checked_add(2)?;
    covered.get(place.clone())?;
    let checksum = match !sum(covered) {
        // To UDP zero means none; the two zeroes of one's complement are otherwise the same.
        0 => u16::MAX,
        checksum => checksum,
    };
    covered.get_mut(place)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// The sum of 16-bit words. It comes out the same in either order of bytes (RFC 1071, 2), so it is made in the host's.
fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks();
    // Two words at a time: no frame is long enough to overflow the sum, and the carries meet at its end.
    let sum: u64 = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u32::from_ne_bytes(*word).into()));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let mut sum = sum.wrapping_add(u32::from_ne_bytes(last).into());
    while sum > 0xffff {
        sum = (sum >> 16).wrapping_add(sum & 0xffff);
    }
    u16::from_be(u16::try_from(sum).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 describes it, one word after the other.
    fn plain(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0_u32, |sum, word| {
            let sum = sum + (u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
            (sum & 0xffff) + (sum >> 16)
        }) as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_its_other_form() {
        let mut bytes = [0xff, 0xff, 0, 0];
        complete(&mut bytes, 2).unwrap();
        assert_eq!(bytes, [0xff; 4]);
    }

    proptest! {
        #[test]
        fn it_is_the_same_however_it_is_summed(bytes in prop::collection::vec(any::<u8>(), 2..3000), at in 0_usize..3000) {
            prop_assert_eq!(sum(&bytes), plain(&bytes));
            let mut completed = bytes.clone();
            let is_inside = at + 2 <= bytes.len();
            prop_assert_eq!(complete(&mut completed, at).is_some(), is_inside);
            if is_inside && at % 2 == 0 {
                // With its pseudo sum taken out first, what is complete sums to all ones.
                let pseudo = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let total = u32::from(plain(&completed)) + u32::from(pseudo);
                prop_assert_eq!((total & 0xffff) + (total >> 16), 0xffff);
            }
        }
    }
}
