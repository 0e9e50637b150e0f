//! `--format`: a part of what an image says of itself, by a template as Docker's clients take it (`{{json .Manifest}}`), or by a JSON
//! path (`$.manifest.digest`).

use std::str::FromStr;

use serde_json::Value;

use super::shape;
use crate::registry::Details;
use crate::template::{Template, TemplateError};

/// What buildx shows as the table that it shows without a format.
const TABLE: &str = "{{.Manifest}}";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Table,
    Template(Template),
    Path(Vec<Step>),
}

/// One step further into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Place(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error(
        "{0:?} is not understood; write a template such as {{{{json .Manifest}}}}, or a JSON path such as $.manifest.digest"
    )]
    Malformed(String),
    #[error("the image has no {0}; `--format '{{{{json .}}}}'` shows what it has")]
    Missing(String),
    #[error("cannot fill in --format: {0}")]
    Template(#[from] TemplateError),
}

impl Format {
    /// Whether it looks at this part of an image; all of it does.
    pub(super) fn mentions(&self, part: &str) -> bool {
        match self {
            Self::Table => false,
            Self::Template(template) => template.mentions(part),
            Self::Path(path) => match path.first() {
                Some(Step::Key(key)) => key.eq_ignore_ascii_case(part),
                Some(Step::Place(_)) | None => true,
            },
        }
    }

    /// What it makes of an image.
    pub(super) fn of(&self, image: &Details) -> Result<String, FormatError> {
        let path = match self {
            Self::Template(template) => {
                return Ok(template.render(&image.parts, shape::of(image.is_list, image.platforms))?);
            }
            Self::Path(path) => path.as_slice(),
            Self::Table => &[],
        };
        let found = path.iter().try_fold(&image.parts, |value, step| step.from(value));
        match found.ok_or_else(|| FormatError::Missing(shown(path)))? {
            Value::String(text) => Ok(text.clone()),
            value => Ok(format!("{value:#}")),
        }
    }
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match (self, value) {
            (Self::Place(place), Value::Array(all)) => all.get(*place),
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
            return path_steps(path).map(Self::Path).ok_or_else(malformed);
        }
        // A text alone would be printed for whatever image.
        if !text.contains("{{") {
            return Err(malformed());
        }
        if text.trim() == TABLE {
            return Ok(Self::Table);
        }
        Ok(Self::Template(Template::parse(text)?))
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
        let parts = json!({
            "name": "demo:1",
            "manifest": {"digest": "sha256:1", "size": 7, "manifests": [{"digest": "sha256:2"}]},
            "image": {"linux/amd64": {"os": "linux", "rootfs": {"diff_ids": ["a"]}}},
            "sbom": {},
        });
        format.parse::<Format>()?.of(&Details { parts, is_list: true, platforms: 2 })
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
            ("{{(index .Image \"linux/amd64\").OS}}", "linux"),
            ("{{(index .Image \"linux/amd64\").RootFS.DiffIDs}}", "[a]"),
            ("{{(index .Image \"linux/amd64\").Config.User}}", ""),
            ("{{json (index .Image \"linux/amd64\").RootFS}}", "{\n  \"diff_ids\": [\n    \"a\"\n  ]\n}"),
            ("{{index .Manifest.Manifests 0 \"digest\"}}", "sha256:2"),
            ("{{.Manifest.Size}}", "7"),
            ("{{json .SBOM}} {{json (index .Provenance \"linux/amd64\")}}", "{} {}"),
        ] {
            assert_eq!(formatted(format).as_deref(), Ok(wanted), "{format}");
        }
        assert!(formatted("{{json .}}").unwrap().starts_with("{\n  \"image\": {"));
        assert_eq!(formatted("$"), formatted("{{json .}}"));
        assert_eq!("{{.Manifest}}".parse(), Ok(Format::Table));
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_told() {
        for format in ["", "text", "json .Manifest", "$a", "$.a[x]"] {
            let error = formatted(format).unwrap_err().to_string();
            let wanted = " is not understood; write a template such as {{json .Manifest}}, or a JSON path";
            assert!(error.contains(wanted), "{format}: {error}");
        }
        let error = formatted("{{.Manifest.Manifests.X}}").unwrap_err().to_string();
        assert_eq!(error, "cannot fill in --format: column 22 of the template: there is no .X of a list");
        assert!(formatted("{{nope .Name}}").unwrap_err().to_string().contains("no function \"nope\""));
        let missing = formatted("$.manifest.manifests[1]").unwrap_err().to_string();
        assert_eq!(
            missing,
            "the image has no .manifest.manifests[1]; `--format '{{json .}}'` shows what it has"
        );
    }

    #[test]
    fn only_what_is_looked_at_is_mentioned() {
        let format: Format = "{{.Name}}{{json .Provenance}}".parse().unwrap();
        assert!(format.mentions("provenance") && !format.mentions("image"));
        assert!("{{json .}}".parse::<Format>().unwrap().mentions("image"));
        assert!("$".parse::<Format>().unwrap().mentions("sbom"));
        assert!(!"$.image".parse::<Format>().unwrap().mentions("sbom"));
    }
}
