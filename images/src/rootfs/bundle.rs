//! The containers of the root: `containers/onboot/NNN-NAME/` and `containers/services/NAME/`, each an OCI bundle with
//! LinuxKit's `runtime.json` beside it (docs/internals.md, "The root image").

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::provenance::{ImageId, Item, Material, Origin};
use crate::sbom::attestation::Listed;
use crate::spec::{ImageConfig, MountSpec, OwnConfig};

use super::{Entry, Node, OciError, Tree, mounts, oci};

/// Where images lie that are used more than once.
const SHARED: &str = "containers/images";

/// An image, unpacked.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) tree: Tree,
    /// What it says of its container.
    pub(crate) config: OwnConfig,
    pub(crate) id: ImageId,
    /// What its builder says is in it.
    pub(crate) listed: Vec<Listed>,
}

/// One container to be.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    /// `containers/services/moby`.
    pub(crate) place: String,
    pub(crate) name: &'a str,
    /// Which image; the same text is the same image.
    pub(crate) image: &'a str,
    pub(crate) config: ImageConfig,
    /// The entry of the definition that it is.
    pub(crate) item: Option<Item>,
}

impl Container<'_> {
    /// Where the files of its image lie: in its own directory if nobody else has them, and nobody writes to them.
    pub(crate) fn root(&self, uses: usize) -> String {
        if self.config.readonly.unwrap_or_default() && uses == 1 {
            format!("{}/rootfs", self.place)
        } else {
            format!("{SHARED}/{}", directory_name(self.image))
        }
    }
}

/// The container that cannot be described, and why.
#[derive(Debug, thiserror::Error)]
#[error("the container {name} cannot be described")]
pub struct BundleError {
    name: String,
    source: OciError,
}

/// Puts all containers into the root, each image once.
pub(crate) fn put_all(
    root: &mut Tree,
    containers: &[Container<'_>],
    images: &BTreeMap<&str, Made>,
) -> Result<(), BundleError> {
    let mut shared = Tree::default();
    for container in containers {
        let image = images.get(container.image);
        put(root, &mut shared, container, image, &users(containers, container.image))
            .map_err(|source| BundleError { name: container.name.to_owned(), source })?;
    }
    root.graft("", &shared, None);
    Ok(())
}

/// The containers that are made of an image.
pub(crate) fn users<'a, 'b>(containers: &'a [Container<'b>], image: &str) -> Vec<&'a Container<'b>> {
    containers.iter().filter(|container| container.image == image).collect()
}

/// Puts one container into the root, its image into `shared` unless it is the only one that reads it.
fn put(
    root: &mut Tree,
    shared: &mut Tree,
    container: &Container<'_>,
    image: Option<&Made>,
    users: &[&Container<'_>],
) -> Result<(), OciError> {
    let place = &container.place;
    let id = image.map(|made| &made.id);
    let origin = |material| Arc::new(Origin { item: container.item.clone(), image: id.cloned(), material });
    let directory = origin(Material::Directory);
    let rootfs = format!("{place}/rootfs");
    let mut lower = image.map(|made| made.tree.clone()).unwrap_or_default();
    let mut runtime = container.config.runtime.clone().unwrap_or_default();
    let read_only = container.config.readonly.unwrap_or_default();
    if read_only {
        make_mount_points(&mut lower, &container.config, &origin(Material::MountPoint))?;
    }
    let mut own_mounts = Vec::new();
    root.ensure_directory(&rootfs, &directory);
    let below = container.root(users.len());
    if below == rootfs {
        root.graft(&rootfs, &lower, container.item.as_ref());
    } else {
        // The same for all, whoever comes by: nothing is replaced.
        let first = users.first().and_then(|first| first.item.as_ref());
        shared.ensure_directory(&below, &directory);
        shared.graft(&below, &lower, first);
        own_mounts = if read_only {
            vec![bind(&below, &rootfs)]
        } else {
            root.ensure_directory(&format!("{place}/tmp"), &directory);
            overlay(&below, place)
        };
    }
    own_mounts.extend(runtime.mounts.take().unwrap_or_default());
    runtime.mounts = (!own_mounts.is_empty()).then_some(own_mounts);
    let spec = oci::spec(container.name, &container.config)?;
    let description = origin(Material::Description);
    root.put(&format!("{place}/config.json"), Entry::file(0o644, sorted_json(&spec)?).of(&description));
    root.put(&format!("{place}/runtime.json"), Entry::file(0o644, sorted_json(&runtime)?).of(&description));
    Ok(())
}

/// What is mounted into a read-only root needs a place there. One with a link or a file above it, or with `..` in it, lies
/// elsewhere or nowhere, and is left to the runtime.
fn make_mount_points(lower: &mut Tree, config: &ImageConfig, origin: &Arc<Origin>) -> Result<(), OciError> {
    for mount in mounts::all(config)? {
        let parts: Vec<_> = mount.destination.split('/').filter(|part| !["", "."].contains(part)).collect();
        let path = parts.join("/");
        let is_directory = |end| {
            let parent = path.get(..end).and_then(|parent| lower.get(parent));
            parent.is_none_or(|entry| entry.node == Node::Directory)
        };
        if !parts.contains(&"..") && path.match_indices('/').all(|(end, _)| is_directory(end)) {
            lower.ensure_directory(&path, origin);
        }
    }
    Ok(())
}

fn bind(below: &str, rootfs: &str) -> MountSpec {
    MountSpec {
        destination: format!("/{rootfs}"),
        kind: Some("bind".to_owned()),
        source: Some(format!("/{below}")),
        options: vec!["bind".to_owned()],
        ..MountSpec::default()
    }
}

/// A root that is written to: in memory, over the image.
fn overlay(below: &str, place: &str) -> Vec<MountSpec> {
    let memory = MountSpec {
        destination: format!("/{place}/tmp"),
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".to_owned()),
        ..MountSpec::default()
    };
    let overlay = MountSpec {
        destination: format!("/{place}/rootfs"),
        kind: Some("overlay".to_owned()),
        source: Some("overlay".to_owned()),
        options: vec![
            format!("lowerdir=/{below}"),
            format!("upperdir=/{place}/tmp/upper"),
            format!("workdir=/{place}/tmp/work"),
        ],
        ..MountSpec::default()
    };
    vec![memory, overlay]
}

/// An image's name as one directory.
fn directory_name(image: &str) -> String {
    image.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

/// JSON with sorted keys and lists that stand for sets: the runtime types keep both in hash tables.
fn sorted_json(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(serde_json::Value::as_object_mut)
    {
        for list in sets.values_mut().filter_map(serde_json::Value::as_array_mut) {
            list.sort_by_key(std::string::ToString::to_string);
        }
    }
    serde_json::to_vec_pretty(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Tree {
        let mut tree = Tree::default();
        tree.put("usr/bin/x", Entry::file(0o755, *b"x"));
        tree.put("var/run", Entry::symlink("/run"));
        tree
    }

    fn container(place: &str, yaml: &str) -> Container<'static> {
        let config = serde_yaml::from_str(yaml).unwrap();
        Container { place: place.to_owned(), name: "x", image: "mvm/x", config, item: None }
    }

    fn built(containers: &[Container<'_>]) -> Tree {
        let mut root = Tree::default();
        let id = ImageId { name: "mvm/x".to_owned(), digest: None };
        let made = Made { tree: image(), config: OwnConfig::default(), id, listed: Vec::new() };
        put_all(&mut root, containers, &BTreeMap::from([("mvm/x", made)])).unwrap();
        root
    }

    fn runtime(tree: &Tree, place: &str) -> serde_json::Value {
        serde_json::from_reader(tree.file(&format!("{place}/runtime.json")).unwrap().reader()).unwrap()
    }

    #[test]
    fn a_read_only_image_used_once_is_its_own_rootfs() {
        let yaml = "{command: [/x], readonly: true, binds: ['/var/lib:/var/lib', '/a:/var/run/a', \
                    '/a:/../../b', '/a:/usr/bin/x/c', '/a:d//./e']}";
        let tree = built(&[container("containers/services/x", yaml)]);
        assert!(tree.file("containers/services/x/rootfs/usr/bin/x").is_some());
        for made in ["proc", "dev", "sys", "var/lib", "d/e"] {
            assert!(tree.get(&format!("containers/services/x/rootfs/{made}")).is_some(), "{made}");
        }
        for left in ["var/run/a", "b", "../../b", "usr/bin/x/c"] {
            assert!(tree.get(&format!("containers/services/x/rootfs/{left}")).is_none(), "{left}");
        }
        assert_eq!(runtime(&tree, "containers/services/x"), serde_json::json!({}));
    }

    #[test]
    fn an_image_used_twice_is_stored_once() {
        let yaml = "{command: [/x], readonly: true}";
        let tree =
            built(&[container("containers/onboot/000-x", yaml), container("containers/onboot/001-x", yaml)]);
        let copies = tree.entries().filter(|(path, _)| path.ends_with("usr/bin/x")).count();
        assert_eq!(copies, 1);
        let mount = &runtime(&tree, "containers/onboot/001-x")["mounts"][0];
        assert_eq!(mount["source"], "/containers/images/mvm-x");
        assert_eq!(mount["destination"], "/containers/onboot/001-x/rootfs");
        assert!(tree.get("containers/onboot/001-x/rootfs").is_some());
    }

    #[test]
    fn a_writable_image_lies_under_an_overlay() {
        let tree = built(&[container("containers/services/x", "{command: [/x]}")]);
        let mounts = &runtime(&tree, "containers/services/x")["mounts"];
        assert_eq!(mounts[0]["type"], "tmpfs");
        assert_eq!(mounts[1]["options"][1], "upperdir=/containers/services/x/tmp/upper");
    }

    #[test]
    fn the_container_that_cannot_be_is_named() {
        let containers = [container("containers/services/x", "{readonly: true}")];
        let error = put_all(&mut Tree::default(), &containers, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "the container x cannot be described");
        assert_eq!(error.source.to_string(), "there is no command to run; give one");
    }

    #[test]
    fn the_same_container_is_the_same_bytes() {
        let yaml = "{command: [/x], capabilities: [all], annotations: {a: b, c: d, e: f}}";
        let one = built(&[container("containers/services/x", yaml)]);
        for _ in 0..4 {
            assert_eq!(built(&[container("containers/services/x", yaml)]), one);
        }
    }
}
