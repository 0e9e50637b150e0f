//! How a list is shown: as its verb's own table, as JSON, or by a template as Docker's clients take it.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::Failure;
use crate::template::{Shape, Template, TemplateError};

/// What every verb takes that lists something.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// As one JSON array
    #[arg(long)]
    json: bool,
    /// A line for each, as in {{.Name}} or json; in columns with a head, as in "table {{.Name}}\t{{.Status}}"
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,
}

/// Something that templates know of an entry.
pub(super) struct Column<T> {
    /// As Docker's clients call it.
    pub(super) name: &'static str,
    pub(super) head: &'static str,
    /// For people: what has to be exact is in the entry's JSON, under its own name.
    pub(super) of: fn(&T) -> Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Format {
    /// The verb's own.
    Table,
    /// An object a line.
    Json,
    Lines(Template),
    Columns(Template),
}

#[derive(Debug, thiserror::Error)]
enum FormatError {
    #[error(
        "{0:?} is not understood; write a template such as {{{{.Name}}}}, table TEMPLATE, table, or json"
    )]
    Malformed(String),
    #[error("cannot fill in --format: {0}")]
    Template(#[from] TemplateError),
    #[error("there is no .{field} in this list; there are {known}, and what --json has")]
    Unknown { field: String, known: String },
}

impl Listing {
    /// What is printed; nothing where that is the verb's own table.
    pub(super) fn text<'a, T: 'a>(
        &self,
        columns: &[Column<T>],
        entries: impl IntoIterator<Item = (Value, &'a T)>,
    ) -> Result<Option<String>, Failure> {
        let entries = entries.into_iter();
        let (template, has_head) = match &self.format {
            _ if self.json => {
                return Ok(Some(format!("{}\n", entries.map(|(record, _)| record).collect::<Value>())));
            }
            None | Some(Format::Table) => return Ok(None),
            Some(Format::Json) => {
                return Ok(Some(entries.map(|(record, _)| format!("{record}\n")).collect()));
            }
            Some(Format::Lines(template)) => (template, false),
            Some(Format::Columns(template)) => (template, true),
        };
        let rows: Vec<_> =
            entries.map(|(record, of)| fields(record, columns, |column| (column.of)(of))).collect();
        let heads = heads(columns, &rows);
        if !rows.is_empty() {
            refuse_unknown(template, columns, &heads).map_err(Failure::usage)?;
        }
        let rows = has_head.then_some(heads).into_iter().chain(rows);
        let lines: Result<Vec<_>, _> =
            rows.map(|row| template.render(&Value::Object(row), &Shape::Any)).collect();
        let lines = lines.map_err(|error| Failure::usage(FormatError::from(error)))?;
        if !has_head {
            return Ok(Some(lines.iter().map(|line| format!("{line}\n")).collect()));
        }
        let cells = |line: &String| line.split('\t').map(str::to_owned).collect();
        Ok(Some(aligned(&lines.iter().map(cells).collect::<Vec<_>>())))
    }
}

/// What a template finds: what `--json` has, and each column under its name.
fn fields<T>(record: Value, columns: &[Column<T>], of: impl Fn(&Column<T>) -> Value) -> Map<String, Value> {
    let Value::Object(mut all) = record else { return Map::new() };
    all.extend(columns.iter().map(|column| (column.name.to_owned(), of(column))));
    all
}

/// The head of everything that a template finds.
fn heads<T>(columns: &[Column<T>], rows: &[Map<String, Value>]) -> Map<String, Value> {
    let keys = rows.iter().flat_map(Map::keys);
    let own: Map<_, _> = keys.map(|key| (key.clone(), key.to_uppercase().replace('_', " ").into())).collect();
    fields(own.into(), columns, |column| column.head.into())
}

fn refuse_unknown<T>(
    template: &Template,
    columns: &[Column<T>],
    known: &Map<String, Value>,
) -> Result<(), FormatError> {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let is_known = |field: &str| known.keys().any(|key| plain(key) == plain(field));
    let Some(field) = template.fields().find(|field| !is_known(field)) else { return Ok(()) };
    let known: Vec<_> = columns.iter().map(|column| column.name).collect();
    Err(FormatError::Unknown { field: field.to_owned(), known: known.join(", ") })
}

/// Rows whose columns are as wide as what is in them.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        // As shells hand them on between single quotes.
        let text = text.trim().replace("\\t", "\t").replace("\\n", "\n");
        match text.as_str() {
            "table" => return Ok(Self::Table),
            // Each column would be in it twice.
            "json" | "{{json .}}" | "{{ json . }}" => return Ok(Self::Json),
            _ => {}
        }
        let (of, template): (fn(Template) -> Self, _) = match text.strip_prefix("table ") {
            Some(template) => (Self::Columns, template.trim_start()),
            None => (Self::Lines, text.as_str()),
        };
        // A text alone would be printed for whatever there is.
        if !template.contains("{{") {
            return Err(FormatError::Malformed(text));
        }
        Ok(of(Template::parse(template)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column<(String, u64)>] = &[
        Column { name: "Ref", head: "BUILD", of: |of| of.0.as_str().into() },
        Column { name: "Size", head: "SIZE", of: |of| format!("{}kB", of.1).into() },
    ];

    fn shown(format: &str) -> Result<String, String> {
        let format = format.parse::<Format>().map_err(|error| error.to_string())?;
        let listing = Listing { json: false, format: Some(format) };
        let entries = [("a".to_owned(), 1), ("long".to_owned(), 20)];
        let record = |of: &(String, u64)| json!({"id": of.0, "size": of.1 * 1000, "cached_steps": of.1});
        match listing.text(COLUMNS, entries.iter().map(|of| (record(of), of))) {
            Ok(text) => Ok(text.unwrap_or_else(|| "its own".to_owned())),
            Err(Failure::Usage(error)) => Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_for_each_by_the_names_of_dockers_clients_or_ones_own() {
        for (format, wanted) in [
            ("{{.Ref}}", "a\nlong\n"),
            (
                "{{.Ref}} has {{.Size}}, {{.size}} bytes",
                "a has 1kB, 1000 bytes\nlong has 20kB, 20000 bytes\n",
            ),
            ("{{.CachedSteps}}\\t{{upper .ID}}", "1\tA\n20\tLONG\n"),
            (
                "table {{.Ref}}\\t{{.Size}}\\t{{.CachedSteps}}",
                "BUILD  SIZE  CACHED STEPS\na      1kB   1\nlong   20kB  20\n",
            ),
            (
                "json",
                "{\"cached_steps\":1,\"id\":\"a\",\"size\":1000}\n{\"cached_steps\":20,\"id\":\"long\",\"size\":20000}\n",
            ),
            ("table", "its own"),
        ] {
            assert_eq!(shown(format).as_deref(), Ok(wanted), "{format}");
        }
        assert_eq!(shown("{{json .}}"), shown("json"));
    }

    #[test]
    fn what_is_not_understood_or_not_there_is_told() {
        for format in ["", "wide", "table wide"] {
            let error = shown(format).unwrap_err();
            assert!(
                error.contains("is not understood; write a template such as {{.Name}}, table"),
                "{error}"
            );
        }
        assert_eq!(
            shown("{{.Nmae}}").unwrap_err(),
            "there is no .Nmae in this list; there are Ref, Size, and what --json has"
        );
        assert!(shown("{{.Ref").unwrap_err().contains("column "));
        let deep = shown("{{.Ref.Deep}}").unwrap_err();
        assert!(deep.starts_with("cannot fill in --format: column ") && deep.contains(".Deep"), "{deep}");
    }

    #[test]
    fn an_empty_list_has_a_head_at_most() {
        let text = |format: &str| {
            let listing = Listing { json: false, format: Some(format.parse().unwrap()) };
            listing.text(COLUMNS, []).unwrap().unwrap()
        };
        assert_eq!(text("{{.Anything}}"), "");
        assert_eq!(text("table {{.Ref}}\t{{.Size}}"), "BUILD  SIZE\n");
        let listing = Listing { json: true, format: None };
        assert_eq!(listing.text(COLUMNS, []).unwrap().unwrap(), "[]\n");
    }
}
