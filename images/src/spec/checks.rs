//! What the parts of a definition say of one another.

use std::collections::BTreeMap;

use super::Document;
use super::validate::nearest;
use crate::rootfs::mounts;
use crate::yaml::{Kind, Node, Problem, Problems, Scalar, Value};

/// The sections that hold containers.
const CONTAINERS: [&str; 3] = ["onboot", "onshutdown", "services"];

/// All that is wrong between the files; what has not its shape is passed over, and told by whoever looks at that.
pub(super) fn all(parts: &[(&Document<'_>, Node)]) -> Problems {
    let names = |section: &'static str| {
        parts.iter().flat_map(move |(_, root)| root.list(section)).filter_map(|node| node.text("name"))
    };
    let read_only = |node: &Node| node.text("readonly") == Some("true");
    let volumes = parts.iter().flat_map(|(_, root)| root.list("volumes"));
    let mut checks = Checks {
        document: None,
        containers: CONTAINERS.into_iter().flat_map(names).collect(),
        volumes: volumes.filter_map(|node| Some((node.text("name")?, read_only(node)))).collect(),
        problems: Problems::default(),
    };
    let mut known = [("service", "services"), ("volume", "volumes")].map(|names| (names, BTreeMap::new()));
    for (document, root) in parts {
        checks.document = Some(document);
        for ((what, section), known) in &mut known {
            for node in root.list(section).iter().filter_map(|node| node.get("name")) {
                let name = text_of(node).unwrap_or_default();
                match known.get(name) {
                    Some(first) => {
                        let problem = Problem::new(format!("duplicate {what} name: {name}"));
                        checks.say(node, problem.hint(format!("the first is at {first}")));
                    }
                    None => _ = known.insert(name, format!("{}:{}", document.file, node.place)),
                }
            }
        }
        for node in CONTAINERS.into_iter().flat_map(|section| root.list(section)) {
            checks.container(node);
        }
        root.list("files").iter().for_each(|node| checks.file(node));
    }
    checks.problems
}

struct Checks<'a> {
    /// The one that is looked at.
    document: Option<&'a Document<'a>>,
    containers: Vec<&'a str>,
    /// By name; whether it is read-only.
    volumes: BTreeMap<&'a str, bool>,
    problems: Problems,
}

impl Checks<'_> {
    fn say(&mut self, node: &Node, problem: Problem) {
        let Some(document) = self.document else { return };
        self.problems.add(problem.at(document.file, document.text, node.place));
    }

    fn container(&mut self, node: &Node) {
        for id in ["uid", "gid"].iter().filter_map(|key| node.get(key)).chain(node.list("additionalGids")) {
            self.id(id);
        }
        for key in ["binds", "binds.add"] {
            for bind in node.list(key) {
                let Some(Ok(mount)) = text_of(bind).map(mounts::bind) else { continue };
                self.volume(bind, mount.source.as_deref(), &mount.options);
            }
        }
        for mount in node.list("mounts") {
            let destination = mount.text("destination").unwrap_or_default();
            if mount.text("type").is_none() {
                self.say(mount, Problem::new(format!("mount for destination {destination} is missing type")));
            }
            let options: Vec<_> = mount.list("options").iter().filter_map(text_of).collect();
            if mount.text("type") == Some("bind")
                || options.iter().any(|option| ["bind", "rbind"].contains(option))
            {
                self.volume(mount, mount.text("source"), &options);
            }
        }
        for interface in node.get("runtime").map(|runtime| runtime.list("interfaces")).unwrap_or_default() {
            if interface.text("add") == Some("veth") && interface.text("peer").is_none() {
                let name = interface.text("name").unwrap_or_default();
                let problem = Problem::new(format!("the interface {name} is one end of a veth"));
                self.say(interface, problem.hint("give the name of the other end as peer"));
            }
        }
    }

    /// What is no path is a volume.
    fn volume<T: AsRef<str>>(&mut self, node: &Node, source: Option<&str>, options: &[T]) {
        let Some(name) = source.filter(|source| !source.starts_with('/')) else { return };
        let is_written = !options.iter().any(|option| option.as_ref() == "ro");
        match self.volumes.get(name) {
            None => {
                let near = nearest(name, self.volumes.keys().copied());
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let hint = hint
                    .unwrap_or_else(|| "a source is a path from / on, or the name of a volume".to_owned());
                self.say(node, Problem::new(format!("there is no volume {name}")).hint(hint));
            }
            Some(true) if is_written => {
                let problem = Problem::new(format!("the volume {name} is read-only, and this writes to it"));
                self.say(node, problem.hint("add the option ro"));
            }
            Some(_) => {}
        }
    }

    fn id(&mut self, node: &Node) {
        let Value::Scalar(scalar) = &node.value else { return };
        if scalar.kind() != Kind::Text || self.containers.contains(&scalar.text.as_str()) {
            return;
        }
        let near = nearest(&scalar.text, self.containers.iter().copied());
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        let hint = hint.unwrap_or_else(|| "it is a number, or the name of a container".to_owned());
        self.say(node, Problem::new(format!("cannot find id: {}", scalar.text)).hint(hint));
    }

    fn file(&mut self, node: &Node) {
        const WHAT: [&str; 5] = ["contents", "source", "metadata", "symlink", "directory"];
        for id in ["uid", "gid"].iter().filter_map(|key| node.get(key)) {
            self.id(id);
        }
        let path = node.text("path").unwrap_or_default();
        let is_given = |key: &&str| node.get(key).is_some() && node.text(key) != Some("false");
        let given: Vec<_> = WHAT.into_iter().filter(is_given).collect();
        let message = match given.as_slice() {
            [_] => None,
            [] => Some(format!("contents of file ({path}) not specified")),
            [first, .., last] => Some(format!("the file {path} has both {first} and {last}")),
        };
        if let Some(message) = message {
            let hint = "give one of contents, source, metadata, symlink and directory";
            self.say(node, Problem::new(message).hint(hint));
        }
        if node.text("optional") == Some("true") && node.get("source").is_none() {
            self.say(
                node,
                Problem::new(format!("the file {path} is optional, and has no source that could be missing")),
            );
        }
    }
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(Scalar { text, .. }) => Some(text),
        Value::List(_) | Value::Map(_) => None,
    }
}
