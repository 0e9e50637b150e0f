//! `KEY=VALUE,KEY=VALUE`: how one option says several things. It is a line of comma-separated values (RFC 4180), so a field in
//! quotes may hold commas.

/// Keys with their values, in their order; a key alone has none.
pub(super) type Fields = Vec<(String, Option<String>)>;

/// Splits `text`. A key has no blanks around it and no capital letters, as `docker buildx build` has it.
pub(super) fn fields(text: &str) -> Result<Fields, String> {
    let wrong = || format!("{text:?} is no list of KEY=VALUE with commas between");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let mut records = reader.records();
    let record = records.next().and_then(Result::ok).ok_or_else(wrong)?;
    if records.next().is_some() {
        return Err(wrong());
    }
    let pair = |field: &str| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_owned(), None),
    };
    Ok(record.iter().map(pair).collect())
}

/// The other way around.
pub(super) fn listed(fields: &Fields) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let pair = |(key, value): &(String, Option<String>)| {
        value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"))
    };
    // Into memory, where nothing fails; no fields at all are no line.
    let line = writer.write_record(fields.iter().map(pair)).ok().and_then(|()| writer.into_inner().ok());
    let line = line.filter(|_| !fields.is_empty()).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

/// A word that says yes or no, as Go reads one (`strconv.ParseBool`).
pub fn truth(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{word:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_quotes() {
        let found = fields("type=local, Dest=a=b,\"name=x,y\",flag").unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let wanted = [("type", Some("local")), ("dest", Some("a=b")), ("name", Some("x,y")), ("flag", None)];
        assert_eq!(found, wanted);
        for text in ["", "a=1", "a=1,b", "\"a=1,2\",c=\"\"x\"\"", "\"a=\"\"\""] {
            let found = if text.is_empty() { Fields::new() } else { fields(text).unwrap() };
            assert_eq!(fields(&listed(&found)).unwrap_or_default(), found, "{text}");
        }
    }

    #[test]
    fn yes_and_no() {
        assert_eq!((truth("1"), truth("False")), (Ok(true), Ok(false)));
        assert_eq!(truth("yes").unwrap_err(), "\"yes\" is neither true nor false");
    }

    #[test]
    fn one_line_only() {
        for text in ["", "a=1\nb=2"] {
            let error = fields(text).unwrap_err();
            assert_eq!(error, format!("{text:?} is no list of KEY=VALUE with commas between"));
        }
    }
}
