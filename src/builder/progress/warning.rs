//! What the builder finds in a Dockerfile and does not fail for.

use std::fmt;

use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use prost::Message;
use serde_json::Value;

use super::rawjson;
use crate::printable::printable;

/// More than this are counted and not kept.
const KEPT: usize = 100;
/// Nor what is more than this, in bytes: each has the whole Dockerfile with it.
const KEPT_BYTES: usize = 8 << 20;

/// Those of a build.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    kept: Vec<VertexWarning>,
    bytes: usize,
    count: usize,
}

impl Warnings {
    pub(super) fn add(&mut self, warning: &VertexWarning) {
        self.count = self.count.saturating_add(1);
        let bytes = self.bytes.saturating_add(warning.encoded_len());
        if self.kept.len() < KEPT && bytes <= KEPT_BYTES {
            self.bytes = bytes;
            self.kept.push(warning.clone());
        }
    }

    /// In the form of BuildKit's own clients.
    pub(super) fn json(&self) -> Vec<Value> {
        self.kept.iter().map(rawjson::warning).collect()
    }
}

/// The rule and what breaks it, where, and where more is said about it.
fn line(warning: &VertexWarning) -> String {
    let mut line = printable(&String::from_utf8_lossy(&warning.short));
    let start = warning.ranges.first().and_then(|range| range.start.as_ref());
    if let Some(start) = start.filter(|start| start.line > 0) {
        let place = format!(" (line {})", start.line);
        // Frontends after BuildKit v0.13 say it themselves.
        if !line.ends_with(&place) {
            line.push_str(&place);
        }
    }
    if !warning.url.is_empty() {
        line.push_str(&format!("; see {}", printable(&warning.url)));
    }
    line
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => return Ok(()),
            1 => writeln!(f, "\n1 warning found:")?,
            count => writeln!(f, "\n{count} warnings found:")?,
        }
        self.kept.iter().try_for_each(|warning| writeln!(f, " - {}", line(warning)))?;
        let more = self.count.saturating_sub(self.kept.len());
        if more > 0 { writeln!(f, " - and {more} more") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{Position, Range};

    use super::*;

    #[test]
    fn each_says_where_and_what_to_read() {
        let mut warnings = Warnings::default();
        assert_eq!(warnings.to_string(), "");
        let at = |line| Range { start: Some(Position { line, character: 0 }), end: None };
        let warning = VertexWarning {
            short: b"FromAsCasing: \x1b[31mas".to_vec(),
            ranges: vec![at(3)],
            url: "https://x/".to_owned(),
            ..VertexWarning::default()
        };
        warnings.add(&warning);
        assert_eq!(
            warnings.to_string(),
            "\n1 warning found:\n - FromAsCasing: as (line 3); see https://x/\n"
        );
        let said =
            VertexWarning { short: b"y (line 3)".to_vec(), ranges: vec![at(3)], ..VertexWarning::default() };
        assert_eq!(line(&said), "y (line 3)");
        for _ in 0..KEPT {
            warnings.add(&VertexWarning { short: b"x".to_vec(), ..VertexWarning::default() });
        }
        let text = warnings.to_string();
        assert!(
            text.starts_with("\n101 warnings found:\n") && text.ends_with(" - x\n - and 1 more\n"),
            "{text}"
        );
    }

    #[test]
    fn too_long_ones_are_counted() {
        let mut warnings = Warnings::default();
        let long = VertexWarning { url: "x".repeat(KEPT_BYTES), ..VertexWarning::default() };
        warnings.add(&long);
        warnings.add(&VertexWarning { short: b"y".to_vec(), ..VertexWarning::default() });
        assert_eq!(warnings.to_string(), "\n2 warnings found:\n - y\n - and 1 more\n");
        assert_eq!(warnings.json(), [serde_json::json!({"short": "eQ=="})]);
    }
}
