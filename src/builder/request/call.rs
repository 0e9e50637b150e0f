//! What a Dockerfile is asked instead of being built, as `docker buildx build` reads `--call`: a request to BuildKit's frontend
//! (its `subrequests`).

use std::str::FromStr;

use super::fields::fields;
use crate::printable::printable_lines;

/// `METHOD[,format=json][,ignorestatus=true]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The request's name.
    pub(super) id: &'static str,
    is_json: bool,
    ignores_status: bool,
}

/// What the frontend answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For people, or as JSON.
    pub text: String,
    /// It found something that is not as it should be.
    pub is_bad: bool,
}

const LINT: &str = "frontend.lint";
const METHODS: [(&str, &str); 5] = [
    ("check", LINT),
    ("lint", LINT),
    ("outline", "frontend.outline"),
    ("targets", "frontend.targets"),
    ("subrequests.describe", "frontend.subrequests.describe"),
];

impl Call {
    /// `--check`.
    pub fn check() -> Self {
        Self { id: LINT, is_json: false, ignores_status: false }
    }

    /// `--call`; nothing where it only says that it is to be built.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text == "build" { Ok(None) } else { text.parse().map(Some) }
    }

    /// Picks the answer out of what the builder says of its result.
    pub(in crate::builder) fn answer(&self, said: impl Fn(&str) -> Option<String>) -> Option<Answer> {
        let mut text = said(if self.is_json { "result.json" } else { "result.txt" })?;
        if text.is_empty() && self.id == LINT {
            let wrong = said("result.json").and_then(|json| build_error(&json));
            text = wrong.unwrap_or_else(|| "Check complete, no warnings found.".to_owned());
        }
        let status = said("result.statuscode");
        let is_bad = !self.ignores_status && status.is_some_and(|status| status != "0");
        Some(Answer { text: printable_lines(&text), is_bad })
    }
}

/// What is so wrong with a Dockerfile that it was not looked at any further.
fn build_error(json: &str) -> Option<String> {
    let found: serde_json::Value = serde_json::from_str(json).ok()?;
    let error = found.get("buildError")?;
    let message = error.get("message")?.as_str()?;
    let line = error.pointer("/location/ranges/0/start/line").and_then(serde_json::Value::as_u64);
    let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    Some(format!("ERROR: {message}{place}"))
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = None;
        let (mut is_json, mut ignores_status) = (false, false);
        for (key, value) in fields(text)? {
            match (key.as_str(), value.as_deref()) {
                ("format", Some("json")) => is_json = true,
                ("format", Some("text")) => {}
                ("ignorestatus", None | Some("true")) => ignores_status = true,
                ("ignorestatus", Some("false")) => {}
                (method, None) => call = METHODS.iter().find(|(name, _)| *name == method),
                _ => {
                    return Err(format!(
                        "{text:?}: there is no {key:?}; there are format=json and ignorestatus=true"
                    ));
                }
            }
        }
        let (_, id) = call.ok_or_else(|| {
            format!(
                "{text:?} is nothing to call; there are build, {}",
                METHODS.map(|(name, _)| name).join(", ")
            )
        })?;
        Ok(Self { id, is_json, ignores_status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_how_they_answer() {
        assert_eq!(Call::parse("check"), Ok(Some(Call::check())));
        assert_eq!(Call::parse("build"), Ok(None));
        let call: Call = "outline,format=json,ignorestatus".parse().unwrap();
        assert_eq!(call, Call { id: "frontend.outline", is_json: true, ignores_status: true });
        let said = |key: &str| Some(if key == "result.statuscode" { "1" } else { key }.to_owned());
        assert_eq!(call.answer(said), Some(Answer { text: "result.json".to_owned(), is_bad: false }));
        assert_eq!(Call::check().answer(said), Some(Answer { text: "result.txt".to_owned(), is_bad: true }));
        assert_eq!(Call::check().answer(|_| None), None);
    }

    #[test]
    fn an_answer_does_not_steer_the_terminal() {
        let said = |key: &str| (key == "result.txt").then(|| "a\u{1b}]0;b\u{7}\n\u{1b}[31mc\n".to_owned());
        assert_eq!(Call::check().answer(said).unwrap().text, "a]0;b\nc\n");
    }

    #[test]
    fn a_dockerfile_that_is_none_is_told() {
        let json =
            r#"{"buildError": {"message": "unknown", "location": {"ranges": [{"start": {"line": 2}}]}}}"#;
        let answer = |json: &str| {
            let said = |key: &str| match key {
                "result.txt" => Some(String::new()),
                "result.json" => Some(json.to_owned()),
                _ => None,
            };
            Call::check().answer(said).unwrap().text
        };
        assert_eq!(answer(json), "ERROR: unknown (line 2)");
        assert_eq!(answer("{}"), "Check complete, no warnings found.");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("fly", "\"fly\" is nothing to call; there are build, check, lint, outline, targets,"),
            ("check,format=xml", "there is no \"format\"; there are format=json and ignorestatus=true"),
        ] {
            let error = text.parse::<Call>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
