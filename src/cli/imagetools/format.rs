//! `--format`: a part of what an image says of itself, by a template as Docker's clients take it (`{{json .Manifest}}`), or by a JSON
//! path (`$.manifest.digest`).

use std::str::FromStr;

use serde_json::Value;

/// Texts, and what stands between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { path: Vec<Step>, is_json: bool },
}

/// One step further into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Place(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error(
        "{0:?} is not understood; write {{{{.PATH}}}}, {{{{json .PATH}}}}, {{{{index .PATH \"KEY\"}}}}, or a JSON path such as $.manifest.digest"
    )]
    Malformed(String),
    #[error("the image has no {0}; `--format '{{{{json .}}}}'` shows what it has")]
    Missing(String),
}

impl Format {
    /// Whether it looks at this part of an image; all of it does.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.0.iter().any(|one| match one {
            Part::Text(_) => false,
            Part::Value { path, .. } => match path.first() {
                Some(Step::Key(key)) => key.eq_ignore_ascii_case(part),
                Some(Step::Place(_)) | None => true,
            },
        })
    }

    /// What it makes of an image.
    pub(super) fn of(&self, image: &Value) -> Result<String, FormatError> {
        let part = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Value { path, is_json } => {
                let found = path.iter().try_fold(image, |value, step| step.from(value));
                let found = found.ok_or_else(|| FormatError::Missing(shown(path)))?;
                Ok(match found {
                    Value::String(text) if !is_json => text.clone(),
                    value => format!("{value:#}"),
                })
            }
        };
        self.0.iter().map(part).collect()
    }
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match (self, value) {
            (Self::Place(place), Value::Array(all)) => all.get(*place),
            // Templates have the names of Go's fields, which begin with a capital letter.
            (Self::Key(key), Value::Object(all)) => {
                let similar = || all.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                all.get(key).or_else(|| similar().map(|(_, value)| value))
            }
            _ => None,
        }
    }
}

fn shown(path: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::Place(place) => format!("[{place}]"),
    };
    path.iter().map(step).collect()
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let malformed = || FormatError::Malformed(text.to_owned());
        if let Some(path) = text.strip_prefix('$') {
            let path = path_steps(path).ok_or_else(malformed)?;
            return Ok(Self(vec![Part::Value { path, is_json: false }]));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or_else(malformed)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(expression(inside.trim()).ok_or_else(malformed)?);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        // A text alone would be printed for whatever image.
        if parts.len() < 2 {
            return Err(malformed());
        }
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }
}

/// `.PATH`, `json .PATH`, and either with `index .PATH "KEY"...` in the place of `.PATH`.
fn expression(text: &str) -> Option<Part> {
    let (is_json, rest) = match text.strip_prefix("json") {
        Some(rest) if rest.starts_with([' ', '(']) => (true, rest.trim()),
        _ => (false, text),
    };
    let rest = match rest.strip_prefix('(') {
        Some(inside) => inside.strip_suffix(')')?.trim(),
        None => rest,
    };
    let path = match rest.strip_prefix("index ") {
        Some(arguments) => indexed(arguments.trim())?,
        None => path_steps(rest)?,
    };
    // Anything but a path of our image is a function or a variable that there is not.
    rest.starts_with(['.', 'i']).then_some(Part::Value { path, is_json })
}

/// `.PATH "KEY" 0 ...`.
fn indexed(text: &str) -> Option<Vec<Step>> {
    let (path, mut rest) = text.split_once(' ')?;
    let mut steps = path_steps(path)?;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(steps);
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            let (key, behind) = quoted.split_once('"')?;
            steps.push(Step::Key(key.to_owned()));
            rest = behind;
        } else {
            let (number, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            steps.push(Step::Place(number.parse().ok()?));
            rest = behind;
        }
    }
}

/// `.a.b`, with `[0]` and `['key']` or `["key"]` as JSON paths have them; `.` and nothing are all of it.
fn path_steps(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), text);
    if rest == "." {
        return Some(steps);
    }
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let (step, behind) = if let Some(quote) = quote {
                let (key, behind) = inside.get(1..)?.split_once(quote)?;
                (Step::Key(key.to_owned()), behind.strip_prefix(']')?)
            } else {
                let (number, behind) = inside.split_once(']')?;
                (Step::Place(number.parse().ok()?), behind)
            };
            steps.push(step);
            rest = behind;
        } else {
            let key = rest.strip_prefix('.')?;
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let (key, behind) = key.split_at(end);
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c)) {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = behind;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn formatted(format: &str) -> Result<String, FormatError> {
        let image = json!({
            "name": "demo:1",
            "manifest": {"digest": "sha256:1", "size": 7, "manifests": [{"digest": "sha256:2"}]},
            "image": {"linux/amd64": {"os": "linux"}},
        });
        format.parse::<Format>()?.of(&image)
    }

    #[test]
    fn templates_and_paths_lead_to_the_same() {
        for (format, wanted) in [
            ("{{.Name}}", "demo:1"),
            ("{{ json .Name }}", "\"demo:1\""),
            ("{{.Name}} is {{.Manifest.Digest}}\n", "demo:1 is sha256:1\n"),
            ("$.manifest.digest", "sha256:1"),
            ("$.manifest.manifests[0].digest", "sha256:2"),
            ("$['image']['linux/amd64'].os", "linux"),
            ("{{index .Image \"linux/amd64\" \"os\"}}", "linux"),
            ("{{json (index .Image \"linux/amd64\")}}", "{\n  \"os\": \"linux\"\n}"),
            ("{{index .Manifest.Manifests 0 \"digest\"}}", "sha256:2"),
            ("{{.Manifest.Size}}", "7"),
        ] {
            assert_eq!(formatted(format).as_deref(), Ok(wanted), "{format}");
        }
        assert!(formatted("{{json .}}").unwrap().starts_with("{\n  \"image\": {"));
        assert_eq!(formatted("$"), formatted("{{json .}}"));
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_told() {
        for format in [
            "",
            "text",
            "{{",
            "{{.Name",
            "{{range .X}}",
            "{{.a b}}",
            "$a",
            "$.a[x]",
            "{{index .A}}",
            "{{upper .Name}}",
        ] {
            let error = formatted(format).unwrap_err().to_string();
            assert!(
                error.contains(" is not understood; write {{.PATH}}, {{json .PATH}}"),
                "{format}: {error}"
            );
        }
        let missing = formatted("{{.Manifest.Manifests.X}}").unwrap_err().to_string();
        assert_eq!(
            missing,
            "the image has no .Manifest.Manifests.X; `--format '{{json .}}'` shows what it has"
        );
        assert!(formatted("$.manifest.manifests[1]").is_err());
    }

    #[test]
    fn only_what_is_looked_at_is_mentioned() {
        let format: Format = "{{.Name}}{{json .Provenance}}".parse().unwrap();
        assert!(format.mentions("provenance") && !format.mentions("image"));
        assert!("{{json .}}".parse::<Format>().unwrap().mentions("image"));
    }
}
