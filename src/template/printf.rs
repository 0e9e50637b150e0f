//! `printf`, with the verbs of Go's `fmt` that there is something for in JSON. What Go prints as `%!d(string=x)` is an error here.

use serde_json::Value;

use super::functions::WIDEST;
use super::value::Item;

/// What stands between a `%` and its verb.
#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn printf(format: &str, values: &[Item<'_>]) -> Result<String, String> {
    let (mut all, mut rest, mut values) = (String::new(), format, values.iter());
    while let Some((before, behind)) = rest.split_once('%') {
        all.push_str(before);
        let (flags, behind) = flags(behind)?;
        let mut characters = behind.chars();
        let verb =
            characters.next().ok_or("a verb is expected behind %, such as %s; write %% for the sign")?;
        rest = characters.as_str();
        if verb == '%' {
            all.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("there is no value for %{verb}"))?;
        all.push_str(&one(&flags, verb, value)?);
    }
    all.push_str(rest);
    match values.len() {
        0 => Ok(all),
        left => Err(format!("there are {left} values more than verbs; write a %v for each")),
    }
}

fn flags(text: &str) -> Result<(Flags, &str), String> {
    let mut flags = Flags::default();
    let end = text.find(|c| !matches!(c, '-' | '0' | '+' | ' ' | '#')).unwrap_or(text.len());
    let (signs, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    for sign in signs.chars() {
        match sign {
            '-' => flags.left = true,
            '0' => flags.zero = true,
            '+' => flags.plus = true,
            ' ' => flags.space = true,
            _ => flags.sharp = true,
        }
    }
    let (width, rest) = digits(rest)?;
    flags.width = width.unwrap_or(0);
    let Some(behind) = rest.strip_prefix('.') else { return Ok((flags, rest)) };
    let (precision, rest) = digits(behind)?;
    flags.precision = Some(precision.unwrap_or(0));
    Ok((flags, rest))
}

fn digits(text: &str) -> Result<(Option<usize>, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(number) if number <= WIDEST => Ok((Some(number), rest)),
        _ => Err(format!("%{digits} is wider than {WIDEST}")),
    }
}

fn one(flags: &Flags, verb: char, item: &Item<'_>) -> Result<String, String> {
    // Every entry of a list by itself, as Go has it.
    if let Value::Array(_) = &*item.value
        && verb != 'v'
    {
        let entries = item.entries().unwrap_or_default();
        let each: Result<Vec<_>, _> = entries.iter().map(|(_, entry)| one(flags, verb, entry)).collect();
        return Ok(format!("[{}]", each?.join(" ")));
    }
    let wrong =
        |wanted: &str| format!("%{verb} takes {wanted}, and this is {}; %v takes everything", item.kind());
    let text = match (verb, &*item.value) {
        ('v', Value::Number(number)) => return Ok(padded(flags, &signed(flags, number.to_string()), true)),
        ('v', _) => cut(flags, &item.inside()),
        ('s', Value::String(text)) => cut(flags, text),
        ('s', Value::Object(_)) => item.shown(),
        ('s', _) => return Err(wrong("a text")),
        ('q', Value::String(text)) => quoted(&cut(flags, text)),
        ('q', _) => return Err(wrong("a text")),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('t', _) => return Err(wrong("true or false")),
        ('x' | 'X', Value::String(text)) => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'U', Value::Number(number)) => {
            let number = number.as_i64().ok_or_else(|| wrong("a whole number"))?;
            return whole(flags, verb, number).ok_or_else(|| format!("{number} is no character"));
        }
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'U', _) => return Err(wrong("a whole number")),
        ('f' | 'F' | 'e' | 'g', Value::Number(number)) => {
            let number = number.as_f64().unwrap_or_default();
            let text = match (verb, flags.precision) {
                ('e', precision) => exponential(number, precision.unwrap_or(6)),
                ('g', _) => number.to_string(),
                (_, precision) => format!("{number:.*}", precision.unwrap_or(6)),
            };
            return Ok(padded(flags, &signed(flags, text), true));
        }
        ('f' | 'F' | 'e' | 'g', _) => return Err(wrong("a number")),
        _ => {
            return Err(format!(
                "there is no %{verb}; there are %v, %s, %q, %d, %t, %x, %f and others of Go's"
            ));
        }
    };
    Ok(padded(flags, &text, false))
}

fn whole(flags: &Flags, verb: char, number: i64) -> Option<String> {
    let (sign, size) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
    let text = match verb {
        'd' => size.to_string(),
        'x' if flags.sharp => format!("{size:#x}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'o' => format!("{size:o}"),
        'b' => format!("{size:b}"),
        'U' => format!("U+{size:04X}"),
        _ => {
            let character = char::from_u32(u32::try_from(number).ok()?)?;
            return Some(padded(flags, &character.to_string(), false));
        }
    };
    Some(padded(flags, &signed(flags, format!("{sign}{text}")), true))
}

/// Go has two digits of an exponent at least, and its sign.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn signed(flags: &Flags, number: String) -> String {
    match number.as_bytes().first() {
        Some(b'-') => number,
        _ if flags.plus => format!("+{number}"),
        _ if flags.space => format!(" {number}"),
        _ => number,
    }
}

fn cut(flags: &Flags, text: &str) -> String {
    text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect()
}

fn padded(flags: &Flags, text: &str, is_number: bool) -> String {
    let missing = flags.width.saturating_sub(text.chars().count());
    if flags.left {
        return format!("{text}{}", " ".repeat(missing));
    }
    if flags.zero && is_number {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+', ' '])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

/// As Go writes a text in its source.
fn quoted(text: &str) -> String {
    let mut all = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => all.extend(['\\', character]),
            '\n' => all.push_str("\\n"),
            '\t' => all.push_str("\\t"),
            '\r' => all.push_str("\\r"),
            character if character.is_ascii_control() => {
                all.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            character if character.is_control() => {
                all.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => all.push(character),
        }
    }
    all.push('"');
    all
}
