//! How a list is shown: as its verb's own table, as JSON, or by a template as Docker's clients take it.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::Failure;
use crate::template::{Reader, Shape, Template, TemplateError};

/// What verbs take that list what a builder or a daemon has.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// As one JSON array: all that is known of each, exactly
    #[arg(long)]
    json: bool,
    /// As Docker's clients: a line for each, as in {{.Name}} or json, or columns with a head, as in "table {{.Name}}\t{{.Status}}"
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,
}

/// Something that a template may show of an entry, for people.
pub(super) struct Column<T> {
    /// As Docker's clients call it.
    pub(super) name: &'static str,
    pub(super) head: &'static str,
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
    #[error("there is no .{field} in this list; there are {known}")]
    Unknown { field: String, known: String },
}

impl Listing {
    /// Whether it is wanted as JSON, which has more of an entry than its columns.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// What is printed by its format; nothing where that is the verb's own table.
    pub(super) fn text<'a, T: 'a>(
        &self,
        columns: &[Column<T>],
        entries: impl IntoIterator<Item = &'a T>,
    ) -> Result<Option<String>, Failure> {
        let row = |of: &dyn Fn(&Column<T>) -> Value| -> Value {
            columns.iter().map(|column| (column.name.to_owned(), of(column))).collect::<Map<_, _>>().into()
        };
        let rows = entries.into_iter().map(|entry| row(&|column| (column.of)(entry)));
        let (template, head) = match &self.format {
            None | Some(Format::Table) => return Ok(None),
            Some(Format::Json) => return Ok(Some(rows.map(|row| format!("{row}\n")).collect())),
            Some(Format::Lines(template)) => (template, None),
            Some(Format::Columns(template)) => (template, Some(row(&|column| column.head.into()))),
        };
        refuse_unknown(template, columns).map_err(Failure::usage)?;
        let filled = |row: &Value, reader| template.render_for(row, &Shape::Any, reader);
        let heads = head.iter().map(|head| filled(head, Reader::Head));
        let lines = heads.chain(rows.map(|row| filled(&row, Reader::Line))).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|error| Failure::usage(FormatError::from(error)))?;
        if head.is_none() {
            return Ok(Some(lines.iter().map(|line| format!("{line}\n")).collect()));
        }
        let cells = |line: &String| line.split('\t').map(str::to_owned).collect();
        Ok(Some(aligned(&lines.iter().map(cells).collect::<Vec<_>>())))
    }
}

fn refuse_unknown<T>(template: &Template, columns: &[Column<T>]) -> Result<(), FormatError> {
    let is_known = |field: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(field));
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
            "json" => return Ok(Self::Json),
            _ => {}
        }
        let (of, template): (fn(Template) -> Self, _) = match text.strip_prefix("table") {
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
    use super::*;

    const COLUMNS: &[Column<(&str, u64)>] = &[
        Column { name: "Ref", head: "BUILD ID", of: |of| of.0.into() },
        Column { name: "Size", head: "SIZE", of: |of| format!("{}kB", of.1).into() },
        Column { name: "Mutable", head: "MUTABLE", of: |of| (of.1 > 1).into() },
    ];

    fn shown(format: &str, entries: &'static [(&'static str, u64)]) -> Result<String, String> {
        let format = format.parse::<Format>().map_err(|error| error.to_string())?;
        let listing = Listing { json: false, format: Some(format) };
        match listing.text(COLUMNS, entries) {
            Ok(text) => Ok(text.unwrap_or_else(|| "its own".to_owned())),
            Err(Failure::Usage(error)) => Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_for_each_by_the_names_of_dockers_clients() {
        let objects = "{\"Mutable\":false,\"Ref\":\"a\",\"Size\":\"1kB\"}\n{\"Mutable\":true,\"Ref\":\"long\",\"Size\":\"20kB\"}\n";
        for (format, wanted) in [
            ("{{.Ref}}", "a\nlong\n"),
            ("{{.Ref}} has {{.size}}{{if .Mutable}}, for now{{end}}", "a has 1kB\nlong has 20kB, for now\n"),
            ("{{json .Ref}}\\t{{upper .Ref}}", "\"a\"\tA\n\"long\"\tLONG\n"),
            ("table {{.Ref}}\\t{{.Size}}", "BUILD ID  SIZE\na         1kB\nlong      20kB\n"),
            (
                "table{{truncate .Ref 2}}\t{{json .Size}}",
                "BUILD ID  SIZE\na         \"1kB\"\nlo        \"20kB\"\n",
            ),
            ("json", objects),
            ("{{json . }}", objects),
            ("table", "its own"),
        ] {
            assert_eq!(shown(format, &[("a", 1), ("long", 20)]).as_deref(), Ok(wanted), "{format}");
        }
        assert_eq!(shown("table {{.Ref}}\t{{.Size}}", &[]).as_deref(), Ok("BUILD ID  SIZE\n"));
        assert_eq!(shown("{{.Ref}}", &[]).as_deref(), Ok(""));
    }

    #[test]
    fn what_is_not_understood_or_not_there_is_told() {
        for format in ["", "wide", "table wide"] {
            let error = shown(format, &[]).unwrap_err();
            assert!(
                error.contains("is not understood; write a template such as {{.Name}}, table"),
                "{error}"
            );
        }
        let unknown = "there is no .Reff in this list; there are Ref, Size, Mutable";
        assert_eq!(shown("{{.Reff}}", &[]).unwrap_err(), unknown);
        assert!(shown("{{.Ref", &[]).unwrap_err().contains("column "));
        let deep = shown("{{.Ref.Deep}}", &[("a", 1)]).unwrap_err();
        assert!(deep.starts_with("cannot fill in --format: column ") && deep.contains(".Deep"), "{deep}");
    }
}
