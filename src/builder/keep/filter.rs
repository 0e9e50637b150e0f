//! Which records of a builder's cache are meant, as `docker buildx du` and `prune` read `--filter`.

use std::str::FromStr;
use std::time::Duration;

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Used longer ago than that.
    Until(Duration),
    /// As BuildKit has it.
    Plain(String),
}

const KEYS: [&str; 8] = ["id", "parents", "description", "inuse", "mutable", "shared", "private", "type"];

impl Filter {
    /// All of them for BuildKit, which takes each text as an alternative to the others.
    pub(super) fn joined(filters: &[Self]) -> Vec<String> {
        let plain = filters.iter().filter_map(|filter| match filter {
            Self::Plain(text) => Some(text.as_str()),
            Self::Until(_) => None,
        });
        let joined = plain.collect::<Vec<_>>().join(",");
        if joined.is_empty() { Vec::new() } else { vec![joined] }
    }

    /// What has been used within this time is left alone.
    pub(super) fn until(filters: &[Self]) -> Option<Duration> {
        filters.iter().rev().find_map(|filter| match filter {
            Self::Until(age) => Some(*age),
            Self::Plain(_) => None,
        })
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("until" | "unused-for", Some(age)) => age_of(age).map(Self::Until),
            (key, None) if KEYS.contains(&key) => Ok(Self::Plain(key.to_owned())),
            // A part of an id is enough.
            ("id", Some(value)) => Ok(Self::Plain(format!("id~={value}"))),
            (key, Some(value)) if KEYS.contains(&key) => Ok(Self::Plain(format!("{key}=={value}"))),
            _ => Err(format!("nothing is filtered by {key:?}; there are until, {}", KEYS.join(", "))),
        }
    }
}

/// `24h`, `1h30m`, `1.5s`, `300ms`: as Go writes a time, and `7d`.
pub(super) fn age_of(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write a number and h, m or s, as in 24h");
    let (mut whole, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let (number, behind) = rest.split_at(rest.find(|letter| !is_number(letter)).ok_or_else(wrong)?);
        let (unit, behind) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        let count: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(count * seconds).map_err(|_| wrong())?;
        whole = whole.checked_add(part).ok_or_else(wrong)?;
        rest = behind;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_buildkit() {
        let filters =
            ["id=abc", "type=exec.cachemount", "mutable", "until=1h30m"].map(|text| text.parse().unwrap());
        assert_eq!(Filter::joined(&filters), ["id~=abc,type==exec.cachemount,mutable"]);
        assert_eq!(Filter::until(&filters), Some(Duration::from_secs(5400)));
        assert!(Filter::joined(&[]).is_empty() && Filter::until(&[]).is_none());
        for (text, wanted) in [
            ("color=red", "nothing is filtered by \"color\"; there are until, id, parents,"),
            ("until=soon", "\"soon\" is no time; write a number and h, m or s, as in 24h"),
            ("until=", "is no time"),
            ("until=24", "is no time"),
            ("until=h", "is no time"),
            ("until=1.2.3h", "is no time"),
            ("until=99999999999999999999d", "is no time"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
