//! The records of an extended header (POSIX, pax interchange format): `LENGTH KEY=VALUE\n`, the length with all of its record.
//! A value may hold any byte, the end of a line too, so it is the length that tells where a record ends.

/// All of them, or the first that is none.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = first(bytes);
        bytes = record.map_or(&[], |(_, rest)| rest);
        Some(record.map(|(pair, _)| pair))
    })
}

/// A key and its value, and what follows.
type Record<'a> = ((&'a [u8], &'a [u8]), &'a [u8]);

fn first(bytes: &[u8]) -> Option<Record<'_>> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let digits = bytes.get(..blank)?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let pair = record.strip_suffix(b"\n")?.get(blank.checked_add(1)?..)?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = pair.split_at_checked(equals)?;
    Some(((key, value.get(1..)?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_any_byte() {
        let all: Vec<_> = records(b"8 a=b c\n13 k=x\n9 y=z\n5 e=\n").collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"b c"), (b"k", b"x\n9 y=z"), (b"e", b"")];
        assert_eq!(all, expected.map(Some));
    }

    #[test]
    fn what_is_no_record_is_told() {
        for bytes in [
            &b"x"[..],
            b"5 a=b\n",
            b"99 a=b\n",
            b"6 a=bc",
            b"5 ab\n",
            b"-1 a=b\n",
            b" a=b\n",
            b"1 \n",
            b"0 a\n",
        ] {
            assert_eq!(records(bytes).collect::<Vec<_>>(), [None], "{bytes:?}");
        }
        let after_a_good_one: Vec<_> = records(b"6 a=b\n6 c=dd\n").collect();
        assert_eq!(after_a_good_one, [Some((&b"a"[..], &b"b"[..])), None]);
        assert_eq!(records(b"").count(), 0);
    }
}
