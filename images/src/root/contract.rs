//! What LinuxKit's own init relies on in a root (pkg/init/cmd/service: runc.go, prepare.go, volumeinit.go), held against roots
//! that are made here. It reads as that init does: it knows no more of the root than the paths and names below.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::tests::assembled;
use crate::origin::Images;
use crate::provenance::ImageId;
use crate::rootfs::bundle::Made;
use crate::rootfs::{Entry, Node, Tree};
use crate::spec::OwnConfig;

/// The fields of `Runtime` and of `Interface` in prepare.go. Go passes over what it does not know; here that is a mistake.
const RUNTIME: [&str; 6] = ["cgroups", "mounts", "mkdir", "interfaces", "bindNS", "namespace"];
const INTERFACE: [&str; 4] = ["name", "add", "peer", "createInRoot"];

/// `specs.Mount` of the runtime specification.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    options: Vec<String>,
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|each| each == option)
    }
}

/// Everything of a root that LinuxKit's init could not work with.
fn violations(root: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for section in ["onboot", "onshutdown", "services"] {
        for (number, place) in directories(root, &format!("containers/{section}")).into_iter().enumerate() {
            // Its steps run in the order of their names, which is the definition's.
            if section != "services" && !place.contains(&format!("/{number:03}-")) {
                found.push(format!("{place}: its name does not begin with {number:03}-"));
            }
            found.extend(bundle(root, &place).iter().map(|problem| format!("{place}: {problem}")));
        }
    }
    for place in directories(root, "containers/volumes") {
        for part in ["lower", "merged"] {
            if !is_directory(root, &format!("{place}/{part}")) {
                found.push(format!("{place}: it has no {part}"));
            }
        }
    }
    found
}

/// What is wrong with one bundle.
fn bundle(root: &Tree, place: &str) -> Vec<String> {
    let read = |name: &str| {
        let content = root.file(&format!("{place}/{name}")).ok_or_else(|| format!("it has no {name}"))?;
        Ok(serde_json::from_reader::<_, Value>(content.reader()).unwrap())
    };
    let (config, runtime): (Value, Value) = match (read("config.json"), read("runtime.json")) {
        (Ok(config), Ok(runtime)) => (config, runtime),
        (config, runtime) => return [config.err(), runtime.err()].into_iter().flatten().collect(),
    };
    let mut wrong = Vec::new();
    let interfaces = runtime["interfaces"].as_array().into_iter().flatten();
    for (value, known) in interfaces.map(|each| (each, &INTERFACE[..])).chain([(&runtime, &RUNTIME[..])]) {
        let unknown = value.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str()));
        wrong.extend(unknown.map(|key| format!("it does not know {key}")));
    }
    // runc gets the bundle's directory.
    if config["root"]["path"] != "rootfs" {
        wrong.push(format!("its root is {}", config["root"]["path"]));
    }
    let mounts: Vec<Mount> = serde_json::from_value(runtime["mounts"].clone()).unwrap();
    let mut mounted: BTreeMap<&str, &Mount> = BTreeMap::new();
    for mount in &mounts {
        wrong.extend(problem(root, mount, &mounted));
        if !mount.has("remount") {
            mounted.insert(mount.destination.trim_start_matches('/'), mount);
        }
    }
    match mounted.get(format!("{place}/rootfs").as_str()) {
        None => wrong.push("nothing is mounted on its rootfs".to_owned()),
        // What cannot be written to needs all places before.
        Some(own) if own.has("bind") => {
            let lower = own.source.trim_start_matches('/');
            let places = config["mounts"].as_array().unwrap().iter().map(|mount| &mount["destination"]);
            let missing =
                places.filter_map(Value::as_str).filter(|at| root.resolve(&format!("{lower}{at}")).is_none());
            wrong.extend(missing.map(|at| format!("there is no place for {at} in {lower}")));
        }
        Some(_) => {}
    }
    wrong
}

/// Why a mount could not be done after the others, on a root that cannot be written to.
fn problem(root: &Tree, mount: &Mount, before: &BTreeMap<&str, &Mount>) -> Option<String> {
    let is_in_memory = |path: &str| {
        let is_below = |place: &str| path == place || path.starts_with(&format!("{place}/"));
        ["run", "tmp", "var"].into_iter().any(is_below)
            || before.iter().any(|(place, mount)| mount.kind == "tmpfs" && is_below(place))
    };
    let path = mount.destination.trim_start_matches('/');
    if !is_directory(root, path) && !is_in_memory(path) {
        return Some(format!("{} cannot be made", mount.destination));
    }
    if mount.has("bind") {
        let source = mount.source.strip_prefix('/');
        return match source.filter(|source| is_directory(root, source) || is_in_memory(source)) {
            Some(_) => None,
            None => Some(format!("there is no {:?} to bind", mount.source)),
        };
    }
    if mount.has("remount") {
        return (!before.contains_key(path)).then(|| format!("{} is not mounted yet", mount.destination));
    }
    if mount.kind == "overlay" {
        let layer = |name: &str| {
            mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix("=/"))
        };
        let (lower, upper, work) = (layer("lowerdir"), layer("upperdir"), layer("workdir"));
        if !lower.is_some_and(|lower| is_directory(root, lower)) {
            return Some(format!("there is no {lower:?} below the overlay"));
        }
        if ![upper, work].into_iter().all(|layer| layer.is_some_and(is_in_memory)) {
            return Some(format!("{upper:?} and {work:?} cannot be written to"));
        }
    }
    None
}

fn directories(root: &Tree, below: &str) -> Vec<String> {
    let depth = below.matches('/').count().saturating_add(1);
    let inside = root.below(below).filter(|(path, _)| path.matches('/').count() == depth);
    inside.map(|(path, _)| path.to_owned()).collect()
}

fn is_directory(root: &Tree, path: &str) -> bool {
    root.resolve(path).is_some_and(|entry| entry.node == Node::Directory)
}

const DEFINITION: &str = "
kernel: {image: k}
init: [init]
volumes: [{name: v, image: a}, {name: w, readonly: true}]
onboot:
  - {name: a, image: a, command: [/x], readonly: true, binds: ['/etc/x:/etc/x', 'w:/w:ro']}
  - {name: b, image: a, command: [/x]}
onshutdown:
  - {name: c, image: b, command: [/x]}
services:
  - name: d
    image: b
    command: [/x]
    readonly: true
    net: new
    runtime:
      interfaces: [{name: a, peer: b}]
      bindNS: {net: /run/n}
      namespace: n
      mkdir: [/var/d]
      cgroups: [g]
      mounts: [{destination: /var/d, type: tmpfs, source: tmpfs}]
  - {name: e, image: b, command: [/x]}
";

fn root() -> Tree {
    let image = |path: &str| {
        let mut tree = Tree::default();
        tree.put(path, Entry::file(0o755, *b"x"));
        Made {
            tree,
            config: OwnConfig::default(),
            id: ImageId { name: "x".to_owned(), digest: None },
            listed: Vec::new(),
        }
    };
    let unpacked =
        BTreeMap::from([("init", image("sbin/init")), ("a", image("usr/bin/x")), ("b", image("x"))]);
    assembled(DEFINITION, &Images { unpacked, ..Images::default() }).0
}

#[test]
fn linuxkits_own_init_could_run_what_is_made_here() {
    assert_eq!(violations(&root()), [""; 0]);
}

/// It can tell.
#[test]
fn a_root_that_it_could_not_run_is_told() {
    let after = |change: &dyn Fn(&mut Tree)| {
        let mut root = root();
        change(&mut root);
        violations(&root).join("; ")
    };
    let changed = |place: &str, file: &str, change: &dyn Fn(&mut Value)| {
        let path = format!("containers/{place}/{file}");
        after(&|root| {
            let mut value: Value = serde_json::from_reader(root.file(&path).unwrap().reader()).unwrap();
            change(&mut value);
            root.put(&path, Entry::file(0o644, value.to_string().into_bytes()));
        })
    };
    assert!(
        after(&|root| root.remove("containers/onboot/000-a"))
            .contains("001-b: its name does not begin with 000-")
    );
    assert!(
        after(&|root| root.remove("containers/onboot/001-b/tmp"))
            .contains("/containers/onboot/001-b/tmp cannot be made")
    );
    assert!(after(&|root| root.remove("containers/onshutdown/000-c/lower")).contains("below the overlay"));
    assert!(after(&|root| root.remove("containers/services/d/rootfs")).contains("rootfs cannot be made"));
    assert!(
        after(&|root| root.remove("containers/services/e/runtime.json")).contains("it has no runtime.json")
    );
    assert!(
        after(&|root| root.remove("containers/onboot/000-a/rootfs/etc/x"))
            .contains("there is no place for /etc/x")
    );
    assert!(after(&|root| root.remove("containers/volumes/v/merged")).contains("v: it has no merged"));
    let mounts = |value: &mut Value| value["mounts"] = json!([]);
    assert!(changed("services/e", "runtime.json", &mounts).contains("nothing is mounted on its rootfs"));
    let unknown = |value: &mut Value| value["interface"] = json!([]);
    assert!(changed("services/d", "runtime.json", &unknown).contains("it does not know interface"));
    let relative = |value: &mut Value| value["mounts"][0]["source"] = json!("containers/services/d/rootfs");
    assert!(changed("services/d", "runtime.json", &relative).contains("to bind"));
    let elsewhere = |value: &mut Value| value["root"]["path"] = json!("/containers/services/d/rootfs");
    assert!(changed("services/d", "config.json", &elsewhere).contains("its root is "));
}
