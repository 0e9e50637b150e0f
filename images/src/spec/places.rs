//! Where the entries of a definition and their fields stand, for whoever asks why something is in an appliance.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Document;
use crate::yaml::{Node, Place, Value};

/// The sections that are lists, each entry of which brings something into the root.
const SECTIONS: [&str; 6] = ["init", "volumes", "onboot", "onshutdown", "services", "files"];

/// A place in a file of a definition. The file is named without the directories of the machine that it was on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct At {
    pub file: String,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Written {
    pub(crate) at: At,
    /// Where each of its fields stands; those of `runtime` as `runtime.FIELD`.
    pub(crate) fields: BTreeMap<String, At>,
}

/// The entries of all sections, numbered as those of the merged definition are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Places(BTreeMap<&'static str, Vec<Written>>);

impl Places {
    pub(super) fn of(parts: &[(&Document<'_>, Node)]) -> Self {
        let section = |section: &'static str| {
            let entries = parts.iter().flat_map(|(document, root)| {
                let file = file_name(document.file);
                root.list(section).iter().map(move |node| written(file, node))
            });
            (section, entries.collect())
        };
        Self(SECTIONS.into_iter().map(section).collect())
    }

    pub(crate) fn entry(&self, section: &str, index: usize) -> Option<&Written> {
        self.0.get(section)?.get(index)
    }
}

fn written(file: &str, node: &Node) -> Written {
    let at = |place: Place| At { file: file.to_owned(), line: place.line, column: place.column };
    let mut fields = BTreeMap::new();
    let mut add = |prefix: &str, node: &Node| {
        let Value::Map(pairs) = &node.value else { return };
        fields.extend(pairs.iter().map(|pair| (format!("{prefix}{}", pair.key), at(pair.key_place))));
    };
    add("", node);
    if let Some(runtime) = node.get("runtime") {
        add("runtime.", runtime);
    }
    Written { at: at(node.place), fields }
}

/// The last part of a path; a URL is whole.
fn file_name(file: &str) -> &str {
    if file.contains("://") { file } else { file.rsplit('/').next().unwrap_or(file) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Definition;
    use super::*;

    #[test]
    fn entries_are_numbered_over_all_files_and_known_by_their_lines() {
        let document = |file, text| Document { file, text, directory: Path::new(""), is_local: false };
        let documents = [
            document("/home/somebody/a.yml", "init:\n  - a\nservices:\n  - name: one\n    image: x\n"),
            document(
                "b.yml",
                "init: [b]\nservices:\n  - name: two\n    image: x\n    runtime: {mkdir: [/d]}\n",
            ),
        ];
        let (definition, places) = Definition::locate(&documents).unwrap();
        assert_eq!(definition.init, ["a", "b"]);
        let at = |section, index: usize| places.entry(section, index).unwrap().at.to_string();
        assert_eq!([at("init", 0), at("init", 1)], ["a.yml:2:5", "b.yml:1:8"]);
        assert_eq!([at("services", 0), at("services", 1)], ["a.yml:4:5", "b.yml:3:5"]);
        let fields = &places.entry("services", 1).unwrap().fields;
        assert_eq!(fields["image"].to_string(), "b.yml:4:5");
        assert_eq!(fields["runtime.mkdir"].to_string(), "b.yml:5:15");
        assert_eq!(places.entry("services", 2), None);
        assert_eq!(file_name("https://example.org/x/a.yml"), "https://example.org/x/a.yml");
    }
}
