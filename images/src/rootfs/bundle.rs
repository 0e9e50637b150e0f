//! The containers of the root: `containers/onboot/NNN-NAME/` and `containers/services/NAME/`, each an OCI bundle with
//! LinuxKit's `runtime.json` beside it (docs/internals.md, "The root image"). An image lies where it is used first, as
//! LinuxKit has it: in that bundle's `rootfs` if it is read-only there, else in its `lower`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::provenance::{ImageId, Item, Material, Origin};
use crate::sbom::attestation::Listed;
use crate::spec::{ImageConfig, MountSpec, OwnConfig};

use super::{Entry, Node, OciError, Tree, mounts, oci};

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

/// The container that cannot be described, and why.
#[derive(Debug, thiserror::Error)]
#[error("the container {name} cannot be described")]
pub struct BundleError {
    name: String,
    source: OciError,
}

impl Container<'_> {
    fn origin(&self, made: Option<&Made>, material: Material) -> Arc<Origin> {
        Arc::new(Origin { item: self.item.clone(), image: made.map(|made| made.id.clone()), material })
    }

    fn cannot_be(&self, source: OciError) -> BundleError {
        BundleError { name: self.name.to_owned(), source }
    }

    fn is_read_only(&self) -> bool {
        self.config.readonly.unwrap_or_default()
    }

    fn rootfs(&self) -> String {
        format!("{}/rootfs", self.place)
    }

    /// Where its image lies when it is the first that uses it.
    fn home(&self) -> String {
        if self.is_read_only() { self.rootfs() } else { format!("{}/lower", self.place) }
    }
}

/// Puts all containers into the root, each image once.
pub(crate) fn put_all(
    root: &mut Tree,
    containers: &[Container<'_>],
    images: &BTreeMap<&str, Made>,
) -> Result<(), BundleError> {
    for (index, container) in containers.iter().enumerate() {
        let made = images.get(container.image);
        let home = home(containers, container.image);
        let before = containers.get(..index).unwrap_or_default();
        if !before.iter().any(|each| each.image == container.image) {
            let tree = with_mount_points(made, container.image, containers)?;
            root.ensure_directory(&home, &container.origin(made, Material::Directory));
            root.graft(&home, &tree, container.item.as_ref());
        }
        put(root, container, made, &home).map_err(|source| container.cannot_be(source))?;
    }
    Ok(())
}

/// Where the files of an image lie: with the first container that is made of it.
pub(crate) fn home(containers: &[Container<'_>], image: &str) -> String {
    containers.iter().find(|each| each.image == image).map(Container::home).unwrap_or_default()
}

/// Puts the description of one container into the root, of an image that lies at `home`.
fn put(root: &mut Tree, container: &Container<'_>, made: Option<&Made>, home: &str) -> Result<(), OciError> {
    let place = &container.place;
    let directory = container.origin(made, Material::Directory);
    let rootfs = container.rootfs();
    root.ensure_directory(&rootfs, &directory);
    let mut runtime = container.config.runtime.clone().unwrap_or_default();
    let mut mounts = if container.is_read_only() {
        vec![bind(home, &rootfs)]
    } else {
        root.ensure_directory(&format!("{place}/tmp"), &directory);
        overlay(home, place)
    };
    mounts.extend(runtime.mounts.take().unwrap_or_default());
    runtime.mounts = Some(mounts);
    let spec = oci::spec(container.name, &container.config)?;
    let description = container.origin(made, Material::Description);
    root.put(&format!("{place}/config.json"), Entry::file(0o644, sorted_json(&spec)?).of(&description));
    root.put(&format!("{place}/runtime.json"), Entry::file(0o644, sorted_json(&runtime)?).of(&description));
    Ok(())
}

/// An image with a place for all that those of its containers mount that cannot make places.
fn with_mount_points(
    made: Option<&Made>,
    image: &str,
    containers: &[Container<'_>],
) -> Result<Tree, BundleError> {
    let mut tree = made.map(|made| made.tree.clone()).unwrap_or_default();
    for container in containers.iter().filter(|each| each.image == image && each.is_read_only()) {
        let origin = container.origin(made, Material::MountPoint);
        make_mount_points(&mut tree, &container.config, &origin)
            .map_err(|source| container.cannot_be(source))?;
    }
    Ok(tree)
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

/// Where the image lies in the bundle itself, it is bound to itself: runc wants a mount there.
fn bind(home: &str, rootfs: &str) -> MountSpec {
    MountSpec {
        destination: format!("/{rootfs}"),
        source: Some(format!("/{home}")),
        options: vec!["bind".to_owned()],
        ..MountSpec::default()
    }
}

/// A root that is written to: in memory, which nobody else sees, over the image.
fn overlay(home: &str, place: &str) -> Vec<MountSpec> {
    let mount = |kind: Option<&str>, at: &str, options: &[String]| MountSpec {
        destination: format!("/{place}/{at}"),
        kind: kind.map(str::to_owned),
        source: kind.map(str::to_owned),
        options: options.to_vec(),
        ..MountSpec::default()
    };
    let layers = [
        format!("lowerdir=/{home}"),
        format!("upperdir=/{place}/tmp/upper"),
        format!("workdir=/{place}/tmp/work"),
    ];
    vec![
        mount(Some("tmpfs"), "tmp", &[]),
        mount(None, "tmp", &["remount".to_owned(), "private".to_owned()]),
        mount(Some("overlay"), "rootfs", &layers),
    ]
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
    fn a_read_only_root_has_a_place_for_each_mount() {
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
        let mounts = serde_json::json!([
            {"destination": "/containers/services/x/rootfs", "source": "/containers/services/x/rootfs", "options": ["bind"]}
        ]);
        assert_eq!(runtime(&tree, "containers/services/x")["mounts"], mounts);
    }

    #[test]
    fn an_image_lies_where_it_is_used_first() {
        let (written, read) = ("{command: [/x]}", "{command: [/x], readonly: true}");
        let sources = |first, second| {
            let (one, other) = ("containers/onboot/000-x", "containers/services/x");
            let tree = built(&[container(one, first), container(other, second)]);
            let copies: Vec<_> = tree.entries().filter(|(path, _)| path.ends_with("usr/bin/x")).collect();
            assert_eq!(copies.len(), 1);
            assert!(tree.get("containers/services/x/rootfs").is_some());
            let mounts = runtime(&tree, other)["mounts"].clone();
            let last = mounts.as_array().unwrap().last().unwrap().clone();
            let source = last["source"].as_str().filter(|source| source.starts_with('/')).map(str::to_owned);
            source.unwrap_or_else(|| last["options"][0].as_str().unwrap().to_owned())
        };
        assert_eq!(sources(read, read), "/containers/onboot/000-x/rootfs");
        assert_eq!(sources(read, written), "lowerdir=/containers/onboot/000-x/rootfs");
        assert_eq!(sources(written, read), "/containers/onboot/000-x/lower");
        assert_eq!(sources(written, written), "lowerdir=/containers/onboot/000-x/lower");
    }

    #[test]
    fn a_writable_image_lies_under_an_overlay() {
        let yaml = "{command: [/x], runtime: {mounts: [{destination: /a, type: tmpfs}]}}";
        let tree = built(&[container("containers/services/x", yaml)]);
        let mounts = &runtime(&tree, "containers/services/x")["mounts"];
        assert_eq!(mounts[0]["type"], "tmpfs");
        assert_eq!(mounts[1]["options"], serde_json::json!(["remount", "private"]));
        assert_eq!(mounts[2]["options"][1], "upperdir=/containers/services/x/tmp/upper");
        assert_eq!(mounts[3]["destination"], "/a", "what was asked for comes after the root");
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
