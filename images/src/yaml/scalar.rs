//! What a scalar is taken for: YAML 1.2's core schema, with the numbers that Go's YAML knows beside it (`0x1f`, `0o17`,
//! `0b11`, `017`), as LinuxKit reads its files with that.

use serde_json::Number;

/// A scalar as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Without quotes, and no block: only then it can be something else than a text.
    pub(crate) is_plain: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Integer(Number),
    Float(f64),
    Text,
}

impl Kind {
    /// What it is, for a message.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text => "a text",
        }
    }
}

impl Scalar {
    pub(crate) fn kind(&self) -> Kind {
        if !self.is_plain {
            return Kind::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" => Kind::Bool(true),
            "false" | "False" | "FALSE" => Kind::Bool(false),
            text => number(text),
        }
    }
}

fn number(text: &str) -> Kind {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // A second sign would be read by the parsers below.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Kind::Text;
    }
    let radixes = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let prefixed = radixes.iter().find_map(|(prefix, radix)| {
        let rest = digits.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        u64::from_str_radix(rest, *radix).ok()
    });
    let magnitude = prefixed.or_else(|| digits.parse().ok());
    if let Some(magnitude) = magnitude {
        if !is_negative {
            return Kind::Integer(magnitude.into());
        }
        if let Some(value) = 0_i64.checked_sub_unsigned(magnitude) {
            return Kind::Integer(value.into());
        }
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    match text.parse() {
        Ok(value) if is_float => Kind::Float(value),
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        Scalar { text: text.to_owned(), is_plain: true }.kind()
    }

    #[test]
    fn plain_scalars_are_what_go_takes_them_for() {
        for (text, value) in
            [("0", 0_i64), ("-12", -12), ("+3", 3), ("0644", 0o644), ("0x1F", 31), ("0o17", 15)]
        {
            assert_eq!(kind(text), Kind::Integer(value.into()), "{text}");
        }
        assert_eq!(kind("18446744073709551615"), Kind::Integer(u64::MAX.into()));
        assert_eq!(kind("-9223372036854775808"), Kind::Integer(i64::MIN.into()));
        assert_eq!(kind("1e3"), Kind::Float(1e3));
        assert_eq!(kind(".5"), Kind::Float(0.5));
        for text in ["yes", "1.2.3", "-", "+-1", "0x", "08a", "nan", "inf", "1_000", "--1", "e5"] {
            assert_eq!(kind(text), Kind::Text, "{text}");
        }
        assert_eq!(kind("True"), Kind::Bool(true));
        assert_eq!(kind("~"), Kind::Null);
        let quoted = Scalar { text: "12".to_owned(), is_plain: false };
        assert_eq!(quoted.kind(), Kind::Text);
    }
}
