//! What is stored with an appliance: the origin of everything in its root, and of what its containers may do.
//!
//! A JSON object: `version`; `origins`, each once; `containers`; and `files`, which has for each path of the root the number
//! of its origin, or an object with that, where the link leads to, and the origins of what was there before.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{Container, Material, Origin};
use crate::rootfs::{Entry, Node, Tree};

/// Counts up when an older mvm would read it wrongly.
const VERSION: u32 = 1;

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provenance {
    version: u32,
    origins: Vec<Origin>,
    pub(super) containers: Vec<Container>,
    pub(super) files: BTreeMap<String, File>,
}

/// A path of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum File {
    Plain(usize),
    More {
        origin: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replaced: Vec<usize>,
    },
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is no such document")]
    Syntax(#[from] serde_json::Error),
    #[error(
        "it has the version {0}, and this mvm knows version {VERSION}; use the mvm that wrote it, or build anew"
    )]
    Version(u32),
    #[error("it names an origin that it does not have")]
    Origin,
}

impl Provenance {
    /// Writes that of a root, entry by entry: it is never in memory as a whole.
    pub(crate) fn write(tree: &Tree, containers: &[Container], mut to: impl Write) -> io::Result<()> {
        let unknown = Arc::new(Origin::own(Material::Directory));
        let (mut origins, mut numbers) = (Vec::new(), HashMap::new());
        let all = tree.entries().flat_map(|(path, entry)| {
            [entry.origin.as_ref().unwrap_or(&unknown)].into_iter().chain(tree.replaced(path))
        });
        for origin in all {
            numbers.entry(origin).or_insert_with(|| {
                origins.push(origin);
                origins.len().saturating_sub(1)
            });
        }
        let number = |origin: &Arc<Origin>| numbers.get(origin).copied().unwrap_or_default();
        let file = |path: &str, entry: &Entry| {
            let origin = number(entry.origin.as_ref().unwrap_or(&unknown));
            let replaced: Vec<_> = tree.replaced(path).iter().map(number).collect();
            match &entry.node {
                Node::Symlink(target) => File::More { origin, link: Some(target.clone()), replaced },
                _ if replaced.is_empty() => File::Plain(origin),
                _ => File::More { origin, link: None, replaced },
            }
        };
        let mut json = serde_json::Serializer::new(&mut to);
        let mut map = json.serialize_map(None)?;
        map.serialize_entry("version", &VERSION)?;
        map.serialize_entry("origins", &List(&origins))?;
        map.serialize_entry("containers", containers)?;
        map.serialize_entry("files", &Files { tree, file: &file })?;
        SerializeMap::end(map)?;
        to.flush()
    }

    /// Reads one, and checks it: what names an origin names one that is there.
    pub(crate) fn read(from: impl io::Read) -> Result<Self, ProvenanceError> {
        let read: Self = serde_json::from_reader(io::BufReader::new(from))?;
        if read.version != VERSION {
            return Err(ProvenanceError::Version(read.version));
        }
        let is_there = |number: &usize| *number < read.origins.len();
        let is_right = |file: &File| is_there(&file.origin()) && file.replaced().iter().all(is_there);
        if read.files.values().all(is_right) { Ok(read) } else { Err(ProvenanceError::Origin) }
    }

    pub(super) fn origin(&self, number: usize) -> Option<&Origin> {
        self.origins.get(number)
    }
}

impl File {
    pub(super) fn origin(&self) -> usize {
        match self {
            Self::Plain(origin) | Self::More { origin, .. } => *origin,
        }
    }

    pub(super) fn replaced(&self) -> &[usize] {
        match self {
            Self::Plain(_) => &[],
            Self::More { replaced, .. } => replaced,
        }
    }

    pub(super) fn link(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::More { link, .. } => link.as_deref(),
        }
    }
}

/// The origins behind their references.
struct List<'a>(&'a [&'a Arc<Origin>]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(AsRef::as_ref))
    }
}

struct Files<'a, F> {
    tree: &'a Tree,
    file: &'a F,
}

impl<F: Fn(&str, &Entry) -> File> Serialize for Files<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.tree.entries().map(|(path, entry)| (path, (self.file)(path, entry))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_small() {
        let origin = |name: &str| Arc::new(Origin::own(Material::Component(name.into())));
        let (one, two) = (origin("one"), origin("two"));
        let mut tree = Tree::default();
        tree.put("bin", Entry::symlink("usr/bin").of(&one));
        tree.put("usr/bin/x", Entry::file(0o755, *b"x").of(&one));
        tree.put("usr/bin/x", Entry::file(0o755, *b"y").of(&two));
        let mut bytes = Vec::new();
        Provenance::write(&tree, &[], &mut bytes).unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"version":1,"origins":[{"material":{"component":"one"}},{"material":"directory"},{"material":{"component":"two"}}],"#
                .to_owned()
                + r#""containers":[],"files":{"bin":{"origin":0,"link":"usr/bin"},"usr":1,"usr/bin":1,"#
                + r#""usr/bin/x":{"origin":2,"replaced":[0]}}}"#
        );
        let read = Provenance::read(bytes.as_slice()).unwrap();
        assert_eq!(read.origin(2), Some(two.as_ref()));
        assert_eq!(read.files["bin"].link(), Some("usr/bin"));
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        let refused = |text: &str| Provenance::read(text.as_bytes()).unwrap_err().to_string();
        let document = r#"{"version":1,"origins":[],"containers":[],"files":{"a":0}}"#;
        assert_eq!(refused(document), "it names an origin that it does not have");
        assert!(refused(&document.replace(":1,", ":2,")).starts_with("it has the version 2, "));
        assert_eq!(refused("{}"), "it is no such document");
    }
}
