//! The functions of a template: those of Go's `text/template` that make sense of JSON, and those that Docker's clients add.

use serde_json::Value;

use super::Reader;
use super::printf;
use super::value::{Item, text};

/// All of them; `and` and `or` do not look at more than they have to, and are not called.
pub(super) const NAMES: [&str; 26] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// No text is padded to more.
pub(super) const WIDEST: usize = 10_000;

/// Those that Docker's clients leave out in a head (docker/cli `HeaderFunctions`).
const NOT_OF_HEADS: [&str; 7] = ["join", "json", "lower", "split", "title", "truncate", "upper"];

type Called<T> = Result<T, String>;

pub(super) fn call<'a>(name: &str, arguments: &[Item<'a>], reader: Reader) -> Called<Item<'a>> {
    if let (Reader::Head, true, Some(head)) = (reader, NOT_OF_HEADS.contains(&name), arguments.first()) {
        return Ok(head.clone());
    }
    Ok(match name {
        "json" if reader == Reader::Page => text(&format!("{:#}", one(arguments)?.value)),
        "json" => text(&one(arguments)?.value.to_string()),
        "len" => length(one(arguments)?)?,
        "index" => {
            let (value, keys) =
                arguments.split_first().ok_or_else(|| takes("a list or a map, and a place or a key"))?;
            keys.iter().try_fold(value.clone(), |value, key| value.index(key))?
        }
        "slice" => slice(arguments)?,
        "not" => Value::from(!one(arguments)?.is_true()).into(),
        "eq" => {
            let (value, others) = arguments.split_first().ok_or_else(|| takes("two values or more"))?;
            if others.is_empty() {
                return Err(takes("two values or more"));
            }
            let equal: Vec<bool> = others.iter().map(|other| value.equals(other)).collect::<Called<_>>()?;
            Value::from(equal.contains(&true)).into()
        }
        "ne" => {
            let [one, other] = two(arguments)?;
            Value::from(!one.equals(other)?).into()
        }
        "lt" | "le" | "gt" | "ge" => {
            let [one, other] = two(arguments)?;
            let order = one.order(other)?;
            let is_so = match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            };
            Value::from(is_so).into()
        }
        "print" => text(&printed(arguments, Item::inside)),
        "println" => {
            let shown: Vec<_> = arguments.iter().map(Item::inside).collect();
            text(&format!("{}\n", shown.join(" ")))
        }
        "printf" => {
            let (format, values) =
                arguments.split_first().ok_or_else(|| takes("a text with a % for each value"))?;
            text(&printf::printf(of_text(format)?, values)?)
        }
        "html" | "js" | "urlquery" => text(&escaped(name, &printed(arguments, Item::shown))),
        _ => of_docker(name, arguments)?,
    })
}

/// What Docker's clients have beside Go's (docker/cli `templates`).
fn of_docker<'a>(name: &str, arguments: &[Item<'a>]) -> Called<Item<'a>> {
    Ok(match name {
        "join" => {
            let [list, separator] = two(arguments)?;
            let entries =
                list.entries().ok_or_else(|| format!("join takes a list, and this is {}", list.kind()))?;
            let shown: Vec<_> = entries.iter().map(|(_, entry)| entry.shown()).collect();
            text(&shown.join(of_text(separator)?))
        }
        "split" => {
            let [whole, separator] = two(arguments)?;
            let (whole, separator) = (of_text(whole)?, of_text(separator)?);
            let parts: Value = match separator {
                "" => whole.chars().map(String::from).collect(),
                separator => whole.split(separator).collect(),
            };
            parts.into()
        }
        "lower" => text(&of_text(one(arguments)?)?.to_lowercase()),
        "upper" => text(&of_text(one(arguments)?)?.to_uppercase()),
        "title" => text(&title(of_text(one(arguments)?)?)),
        "pad" => {
            let [whole, before, behind] = arguments else { return Err(takes("a text and two numbers")) };
            let (before, behind) = (" ".repeat(of_width(before)?), " ".repeat(of_width(behind)?));
            match of_text(whole)? {
                "" => text(""),
                whole => text(&format!("{before}{whole}{behind}")),
            }
        }
        "truncate" => {
            let [whole, longest] = two(arguments)?;
            text(&of_text(whole)?.chars().take(of_width(longest)?).collect::<String>())
        }
        _ => return Err(format!("there is no function {name:?}")),
    })
}

fn takes(what: &str) -> String {
    format!("this function takes {what}")
}

fn one<'b, 'a>(arguments: &'b [Item<'a>]) -> Called<&'b Item<'a>> {
    match arguments {
        [only] => Ok(only),
        _ => Err(format!("this function takes one value, and there are {}", arguments.len())),
    }
}

fn two<'b, 'a>(arguments: &'b [Item<'a>]) -> Called<[&'b Item<'a>; 2]> {
    match arguments {
        [one, other] => Ok([one, other]),
        _ => Err(format!("this function takes two values, and there are {}", arguments.len())),
    }
}

fn of_text<'b>(item: &'b Item<'_>) -> Called<&'b str> {
    item.value.as_str().ok_or_else(|| format!("a text is expected, and this is {}", item.kind()))
}

fn of_width(item: &Item<'_>) -> Called<usize> {
    let number = item.value.as_u64().and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| *number <= WIDEST)
        .ok_or_else(|| format!("a number from 0 to {WIDEST} is expected, and this is {}", item.shown()))
}

fn length<'a>(item: &Item<'a>) -> Called<Item<'a>> {
    let length = if let Some(text) = item.value.as_str() {
        text.len()
    } else {
        let entries = item.entries();
        entries
            .ok_or_else(|| format!("len takes a text, a list or a map, and this is {}", item.kind()))?
            .len()
    };
    Ok(Value::from(length).into())
}

fn slice<'a>(arguments: &[Item<'a>]) -> Called<Item<'a>> {
    let (whole, bounds) =
        arguments.split_first().ok_or_else(|| takes("a text or a list, and where it begins"))?;
    let bound = |place: usize| -> Called<Option<usize>> {
        let given = bounds.get(place);
        let number = |item: &Item<'_>| item.value.as_u64().and_then(|number| usize::try_from(number).ok());
        given.map(|item| number(item).ok_or_else(|| format!("{} is no place", item.shown()))).transpose()
    };
    if bounds.len() > 2 {
        return Err(takes("a text or a list, where it begins, and where it ends"));
    }
    let (start, end) = (bound(0)?.unwrap_or(0), bound(1)?);
    let outside = |length: usize| format!("{start} to {} is not inside of {length}", end.unwrap_or(length));
    match &*whole.value {
        Value::String(whole) => {
            let part = whole.get(start..end.unwrap_or(whole.len()));
            Ok(text(part.ok_or_else(|| outside(whole.len()))?))
        }
        Value::Array(all) => {
            let part = all.get(start..end.unwrap_or(all.len())).ok_or_else(|| outside(all.len()))?;
            Ok(Item { value: std::borrow::Cow::Owned(part.to_vec().into()), shape: whole.shape })
        }
        _ => Err(format!("slice takes a text or a list, and this is {}", whole.kind())),
    }
}

/// As Go's `fmt.Sprint`: a space between two that are no text.
fn printed<'a>(arguments: &[Item<'a>], as_text: fn(&Item<'a>) -> String) -> String {
    let mut all = String::new();
    let mut was_text = true;
    for item in arguments {
        let is_text = item.value.is_string();
        if !all.is_empty() && !is_text && !was_text {
            all.push(' ');
        }
        all.push_str(&as_text(item));
        was_text = is_text;
    }
    all
}

fn title(text: &str) -> String {
    let mut is_first = true;
    text.chars()
        .flat_map(|character| {
            let capital = is_first && character.is_alphabetic();
            is_first = !(character.is_alphanumeric() || matches!(character, '_' | '\''));
            let upper: Vec<char> = character.to_uppercase().collect();
            if capital { upper } else { vec![character] }
        })
        .collect()
}

fn escaped(function: &str, text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for character in text.chars() {
        match (function, character) {
            ("html", '<') => all.push_str("&lt;"),
            ("html", '>') => all.push_str("&gt;"),
            ("html", '&') => all.push_str("&amp;"),
            ("html", '"') => all.push_str("&#34;"),
            ("html", '\'') => all.push_str("&#39;"),
            ("js", '\\' | '\'' | '"') => all.extend(['\\', character]),
            ("js", '<' | '>' | '&' | '=') => all.push_str(&format!("\\u{:04X}", u32::from(character))),
            ("js", character) if character.is_control() => {
                all.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            ("urlquery", ' ') => all.push('+'),
            ("urlquery", character)
                if !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '~')) =>
            {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    all.push_str(&format!("%{byte:02X}"));
                }
            }
            _ => all.push(character),
        }
    }
    all
}
