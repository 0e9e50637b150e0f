//! What a build may be made from, and what it is made from instead: BuildKit's source policies, as its clients read them
//! (moby/buildkit `sourcepolicy/pb`, `docs/build-repro.md`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// A policy that was read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    version: i64,
    rules: Vec<Rule>,
}

/// A policy that cannot be kept.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("cannot read the source policy {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is no source policy")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(deserialize_with = "action")]
    action: i32,
    selector: Selector,
    updates: Option<Update>,
}

/// Which sources are meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    identifier: String,
    #[serde(default, alias = "matchType", deserialize_with = "match_type")]
    match_type: i32,
    #[serde(default)]
    constraints: Vec<Constraint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraint {
    key: String,
    value: String,
    #[serde(default, deserialize_with = "condition")]
    condition: i32,
}

/// What they become.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    attrs: HashMap<String, String>,
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text =
            std::fs::read(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&text).map_err(|source| PolicyError::Json { path: path.to_owned(), source })
    }

    /// What sources may become.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let updates = self.rules.iter().filter_map(|rule| rule.updates.as_ref());
        updates.map(|update| update.identifier.as_str()).filter(|address| !address.is_empty())
    }

    pub(super) fn told(&self) -> sourcepolicy::Policy {
        sourcepolicy::Policy { version: self.version, rules: self.rules.iter().map(Rule::told).collect() }
    }
}

impl Rule {
    fn told(&self) -> sourcepolicy::Rule {
        let constraint = |one: &Constraint| sourcepolicy::AttrConstraint {
            key: one.key.clone(),
            value: one.value.clone(),
            condition: one.condition,
        };
        let update = |one: &Update| sourcepolicy::Update {
            identifier: one.identifier.clone(),
            attrs: one.attrs.clone(),
        };
        sourcepolicy::Rule {
            action: self.action,
            selector: Some(sourcepolicy::Selector {
                identifier: self.selector.identifier.clone(),
                match_type: self.selector.match_type,
                constraints: self.selector.constraints.iter().map(constraint).collect(),
            }),
            updates: self.updates.as_ref().map(update),
        }
    }
}

fn action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    word(deserializer, |word| sourcepolicy::PolicyAction::from_str_name(word).map(i32::from))
}

fn match_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    word(deserializer, |word| sourcepolicy::MatchType::from_str_name(word).map(i32::from))
}

fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    word(deserializer, |word| sourcepolicy::AttrMatch::from_str_name(word).map(i32::from))
}

/// One of some words, as its number.
fn word<'de, D: Deserializer<'de>>(
    deserializer: D,
    number: impl Fn(&str) -> Option<i32>,
) -> Result<i32, D::Error> {
    let word = String::deserialize(deserializer)?;
    number(&word).ok_or_else(|| serde::de::Error::custom(format!("{word:?} has no meaning here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Policy::read(file.path()).map_err(|error| match error {
            PolicyError::Json { source, .. } => source.to_string(),
            other @ PolicyError::Read { .. } => other.to_string(),
        })
    }

    #[test]
    fn a_policy_is_told_as_it_is_written() {
        let text = r#"{"rules": [
            {"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/alpine:latest"},
             "updates": {"identifier": "docker-image://127.0.0.1:5000/alpine@sha256:0"}},
            {"action": "DENY", "selector": {"identifier": "https://.*", "match_type": "REGEX",
             "constraints": [{"key": "http.checksum", "value": "x", "condition": "NOTEQUAL"}]}}]}"#;
        let policy = read(text).unwrap();
        assert_eq!(policy.addresses().collect::<Vec<_>>(), ["docker-image://127.0.0.1:5000/alpine@sha256:0"]);
        let told = policy.told();
        assert_eq!(told.rules[0].action(), sourcepolicy::PolicyAction::Convert);
        assert_eq!(told.rules[1].action(), sourcepolicy::PolicyAction::Deny);
        let selector = told.rules[1].selector.as_ref().unwrap();
        assert_eq!(selector.match_type(), sourcepolicy::MatchType::Regex);
        assert_eq!(selector.constraints[0].condition(), sourcepolicy::AttrMatch::Notequal);
    }

    #[test]
    fn what_would_not_be_kept_is_refused() {
        for (text, told) in [
            ("{}", "missing field `rules`"),
            (
                r#"{"rules": [{"action": "FORBID", "selector": {"identifier": "x"}}]}"#,
                "\"FORBID\" has no meaning",
            ),
            (
                r#"{"rules": [{"action": "DENY", "selector": {"identifer": "x"}}]}"#,
                "unknown field `identifer`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
