//! The schema for readers: `docs/linuxkit-reference.md`.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{resolve, schema};

/// The page.
#[must_use]
pub fn reference() -> String {
    let mut page =
        "# linuxkit.yml, field by field\n\nMade of the types in `images/src/spec` by `mvm image schema \
                    --markdown`. How the parts work together is in [linuxkit.md](linuxkit.md).\n"
            .to_owned();
    table(&mut page, "The definition", schema());
    let types = schema().get("$defs").and_then(Value::as_object).into_iter().flatten();
    // What an image says of itself is a container without two fields.
    for (name, part) in
        types.filter(|(name, part)| name.as_str() != "ImageConfig" && part.get("properties").is_some())
    {
        table(&mut page, name, part);
    }
    page
}

fn table(page: &mut String, title: &str, part: &Value) {
    // Writing to a text does not fail.
    let _ =
        write!(page, "\n## {title}\n{}\n\n| field | what | meaning |\n|---|---|---|\n", description(part));
    let required = part.get("required").and_then(Value::as_array);
    for (field, part) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.iter().any(|name| name == field));
        let needed = if is_required { ", required" } else { "" };
        let _ = writeln!(page, "| `{field}` | {}{needed} | {} |", kind(part), description(part));
    }
}

/// A comment's paragraphs in one line: it stands in a table.
fn description(part: &Value) -> String {
    let text = part.get("description").and_then(Value::as_str).unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

/// What stands there, with a link to what has fields of its own.
fn kind(part: &Value) -> String {
    if let Some(name) = part.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
        let target = resolve(part);
        if target.get("properties").is_none() {
            return kind(target);
        }
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let choices = |key: &str| part.get(key).and_then(Value::as_array);
    if let Some(values) = choices("enum") {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(" or ");
    }
    if let Some(kinds) = choices("anyOf").or_else(|| choices("oneOf")) {
        return kinds.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match part.get("type").and_then(Value::as_str) {
        Some("array") => format!("list of {}", part.get("items").map(kind).unwrap_or_default()),
        Some("object") => {
            format!("texts to {}", part.get("additionalProperties").map(kind).unwrap_or_default())
        }
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        _ => String::new(),
    }
}
