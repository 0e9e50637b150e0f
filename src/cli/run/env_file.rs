//! A file of variables, as `docker run --env-file` reads it.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with one.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvFileError {
    #[error("cannot read the variables in {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "line {line} of {path:?} names no variable; write KEY=VALUE, or KEY for the value that it has here"
    )]
    NoName { path: PathBuf, line: usize },
}

/// Its lines with a variable: `KEY=VALUE`, or `KEY`. What begins with `#` is for people.
pub(super) fn read(path: &Path) -> Result<Vec<String>, EnvFileError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| EnvFileError::Read { path: path.to_owned(), source })?;
    // Editors of Windows begin a file so.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let name = text.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(EnvFileError::NoName { path: path.to_owned(), line });
        }
        variables.push(text.to_owned());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_are_taken_as_they_are() {
        let text = "\u{feff}# for people\n\n  A=1\nB=b = \"c\" # no comment\r\nHOME\nC=\n";
        assert_eq!(of(text).unwrap(), ["A=1", "B=b = \"c\" # no comment", "HOME", "C="]);
        assert_eq!(of("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for text in ["A=1\n=2\n", "A=1\nexport B=2\n"] {
            let error = of(text).unwrap_err();
            assert!(error.starts_with("line 2 of ") && error.contains("; write KEY=VALUE"), "{error}");
        }
        let missing = read(Path::new("/nonexistent/env")).unwrap_err().to_string();
        assert_eq!(missing, "cannot read the variables in \"/nonexistent/env\"");
    }
}
