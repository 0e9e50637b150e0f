//! What is told of a path of the root, or of a container.

use serde::Serialize;

use super::document::File;
use super::{Container, Origin, Provenance};
use crate::rootfs::links;

/// What is known of what was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<'a> {
    Container(&'a Container),
    /// What is at the path, and where it leads to if that is a link, to the end.
    Path(Vec<Found<'a>>),
}

/// One path of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found<'a> {
    /// With all links on the way to its last name followed.
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'a str>,
    pub origin: &'a Origin,
    /// What was there before, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<&'a Origin>,
    /// The containers that have it in their root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<&'a str>,
}

/// There is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} in the appliance; {near}")]
pub struct Unknown {
    what: String,
    near: String,
}

impl Provenance {
    /// A path of the root; `CONTAINER:/PATH`, of a container's root; or the name of a container.
    pub fn explain(&self, what: &str) -> Result<Answer<'_>, Unknown> {
        if let Some(container) = self.container(what) {
            return Ok(Answer::Container(container));
        }
        let inside = what.split_once(':').and_then(|(name, path)| Some((self.container(name)?, path)));
        let inside = inside.or_else(|| self.below_mount(what));
        let (root, path) = match inside {
            Some((container, path)) => (container.root.as_str(), path),
            None => ("", what),
        };
        let found = self.chain(root, path.trim_start_matches('/'));
        if found.is_empty() { Err(self.unknown(what, root)) } else { Ok(Answer::Path(found)) }
    }

    fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// A path in what is mounted on a container's `rootfs` when it runs.
    fn below_mount<'a>(&self, path: &'a str) -> Option<(&Container, &'a str)> {
        let path = path.trim_start_matches('/');
        let below =
            |container: &Container| path.strip_prefix(container.directory.as_str())?.strip_prefix("/rootfs/");
        let found = |container| Some((container, below(container)?));
        self.containers
            .iter()
            .filter(|container| !container.root.starts_with(&container.directory))
            .find_map(found)
    }

    /// What is at a path below `root`, and what that leads to.
    fn chain(&self, root: &str, path: &str) -> Vec<Found<'_>> {
        /// As many links as Linux follows.
        const MOST: usize = 40;
        let mut found = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take().filter(|_| found.len() < MOST) {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let target = |path: &str| self.files.get(&joined(root, path)).and_then(File::link);
            let Some(above) = links::follow(above, target, |_, _| true) else { break };
            let place = joined(&above, name);
            let full = joined(root, &place);
            let Some((file, origin)) =
                self.files.get(&full).and_then(|file| Some((file, self.origin(file.origin())?)))
            else {
                break;
            };
            let replaced = file.replaced().iter().filter_map(|number| self.origin(*number)).collect();
            next = file.link().map(|target| match target.strip_prefix('/') {
                Some(target) => target.to_owned(),
                None => joined(&above, target),
            });
            let containers = self.seen_by(&full);
            found.push(Found { path: format!("/{full}"), link: file.link(), origin, replaced, containers });
        }
        found
    }

    fn seen_by(&self, path: &str) -> Vec<&str> {
        let has = |container: &&Container| {
            path.strip_prefix(container.root.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.containers.iter().filter(has).map(|container| container.name.as_str()).collect()
    }

    fn unknown(&self, what: &str, root: &str) -> Unknown {
        const MOST: usize = 3;
        let path = match what.split_once(':') {
            Some((_, path)) if !root.is_empty() => path,
            _ => what,
        };
        let path = path.trim_matches('/');
        let below = self.files.keys().filter_map(|other| {
            if root.is_empty() { Some(other.as_str()) } else { other.strip_prefix(root)?.strip_prefix('/') }
        });
        let names = self.containers.iter().map(|container| container.name.as_str());
        let mut rated: Vec<_> = below.map(|other| (likeness(path, other), format!("/{other}"))).collect();
        if root.is_empty() {
            rated.extend(names.map(|name| (MOST_ALIKE * strsim::jaro_winkler(what, name), name.to_owned())));
        }
        rated.sort_by(|(one, a), (other, b)| other.total_cmp(one).then_with(|| a.cmp(b)));
        let near: Vec<_> = rated.into_iter().take(MOST).map(|(_, name)| name).collect();
        let near = match near.split_last() {
            None => "nothing is in it".to_owned(),
            Some((last, [])) => format!("there is {last}"),
            Some((last, rest)) => format!("there are {} and {last}", rest.join(", ")),
        };
        Unknown { what: what.to_owned(), near }
    }
}

/// What [`likeness`] says of the same path.
const MOST_ALIKE: f64 = 3.0;

/// How alike two paths are; those of the same name most of all.
fn likeness(one: &str, other: &str) -> f64 {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    strsim::jaro_winkler(one, other) + 2.0 * strsim::jaro_winkler(&name(one), &name(other))
}

fn joined(above: &str, name: &str) -> String {
    if above.is_empty() || name.is_empty() { format!("{above}{name}") } else { format!("{above}/{name}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{ImageId, Material};
    use super::*;
    use crate::rootfs::{Entry, Tree};

    fn provenance() -> Provenance {
        let origin = |name: &str| Arc::new(Origin::own(Material::Component(name.into())));
        let mut tree = Tree::default();
        tree.put("bin", Entry::symlink("usr/bin").of(&origin("link")));
        tree.put("usr/bin/sh", Entry::symlink("busybox").of(&origin("sh")));
        tree.put("usr/bin/busybox", Entry::file(0o755, *b"x").of(&origin("busybox")));
        tree.put("etc/resolv.conf", Entry::symlink("/run/resolv.conf").of(&origin("resolv")));
        tree.put("loop", Entry::symlink("loop").of(&origin("loop")));
        for name in ["bin", "sbin"] {
            let path = format!("containers/onboot/000-x/lower/{name}");
            tree.put(&path, Entry::symlink("/usr/bin").of(&origin("in the image")));
        }
        tree.put("containers/onboot/000-x/lower/usr/bin/ls", Entry::file(0o755, *b"ls").of(&origin("ls")));
        let container = |name: &str| Container {
            name: name.into(),
            directory: format!("containers/services/{name}"),
            root: "containers/onboot/000-x/lower".into(),
            item: None,
            image: ImageId { name: "x".into(), digest: None },
            fields: Vec::new(),
        };
        let mut bytes = Vec::new();
        Provenance::write(&tree, &["one", "two"].map(container), &mut bytes).unwrap();
        Provenance::read(bytes.as_slice()).unwrap()
    }

    fn told(what: &str) -> Vec<String> {
        let provenance = provenance();
        let Answer::Path(found) = provenance.explain(what).unwrap() else { panic!("{what}") };
        found.iter().map(|found| format!("{} {}", found.path, found.origin.material)).collect()
    }

    #[test]
    fn a_path_is_told_through_its_links() {
        assert_eq!(
            told("/bin/sh"),
            ["/usr/bin/sh the component's sh", "/usr/bin/busybox the component's busybox"]
        );
        assert_eq!(told("usr/bin/busybox"), ["/usr/bin/busybox the component's busybox"]);
        // Where it leads to comes to be when the machine runs.
        assert_eq!(told("etc/resolv.conf"), ["/etc/resolv.conf the component's resolv"]);
        assert_eq!(told("loop").len(), 40);
    }

    #[test]
    fn a_path_of_a_container_is_one_of_its_image() {
        let ls = ["/containers/onboot/000-x/lower/usr/bin/ls the component's ls"];
        for what in ["one:/usr/bin/ls", "two:/bin/ls", "/containers/services/one/rootfs/sbin/ls"] {
            assert_eq!(told(what), ls, "{what}");
        }
        let provenance = provenance();
        let Ok(Answer::Path(found)) = provenance.explain("one:/bin/ls") else { panic!() };
        assert_eq!(found[0].containers, ["one", "two"]);
        assert_eq!(provenance.explain("two").unwrap(), Answer::Container(&provenance.containers[1]));
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let refused = |what: &str| provenance().explain(what).unwrap_err().to_string();
        let error = refused("/usr/sbin/busybx");
        assert!(
            error.starts_with("there is no /usr/sbin/busybx in the appliance; there are /usr/bin/busybox, "),
            "{error}"
        );
        let error = refused("one:/usr/bin/lss");
        assert!(error.contains("there are /usr/bin/ls, "), "{error}");
        assert!(refused("twoo").contains("; there are two, "), "{}", refused("twoo"));
        assert!(refused("three:/x").starts_with("there is no three:/x in the appliance; "));
    }
}
