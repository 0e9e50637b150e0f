//! Containers of a `linuxkit.yml`: each asks for one thing, and sees that and nothing else. All of them are steps of one boot,
//! of an image with a program that says what it sees (`tests/rig/src/prober`).

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};
use support::{Instance, Options, STATIC, TOP, built, eventually, layout_of, skipped};

const CASES: &str = include_str!("cases.yml");
const NOTHING: &str = include_str!("nothing.yml");
const IMAGE: &str = "test/prober:1";
const LABELLED: &str = "test/labelled:1";
const SERVICE: &str = "again";
/// How many steps mvm's own appliance has.
const OWN_STEPS: usize = 5;

/// A container, and what of its report differs from that of one that asks for nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    asks: Value,
    sees: Value,
}

#[test]
fn each_container_sees_what_it_asks_for_and_nothing_else() {
    if skipped("containers") {
        return;
    }
    let cases: Vec<Case> = serde_yaml::from_str(CASES).unwrap();
    let instance = boot(&cases);
    let machine = namespaces_of_init(&instance);
    let nothing: Value = serde_yaml::from_str(NOTHING).unwrap();
    let mut keeper = BTreeMap::new();
    let mut wrong = String::new();
    for (number, case) in (OWN_STEPS..).zip(&cases) {
        let log = instance.mvm(&["logs", &format!("onboot.{number:03}-{}", case.name)]).ok();
        let mut seen: Value = serde_json::from_str(&log).unwrap_or_else(|error| panic!("{error} in {log}"));
        // It grows with the machine's memory.
        seen["limits"].as_object_mut().unwrap().remove("Max pending signals");
        let own = numbers(&seen["namespaces"]);
        seen["namespaces"] = name(&own, &[("machine", &machine), ("keeper's", &keeper)]);
        if case.name == "keeper" {
            keeper = own;
        }
        let mut expected = nothing.clone();
        expected["cgroup"]["path"] = json!(format!("/mvm/{}", case.name));
        merge(&mut expected, &case.sees);
        differences(&case.name, &expected, &seen, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // The keeper has ended long ago.
    for (kind, number) in &keeper {
        let kept = instance.mvm(&["exec", "stat", "-L", "-c", "%i", &format!("/run/ns/{kind}")]).ok();
        assert_eq!(kept.trim(), number.to_string(), "{kind}");
    }
    a_service_is_given_its_own_anew(&instance);
}

/// What an earlier run of it had would have the names that it wants.
fn a_service_is_given_its_own_anew(instance: &Instance) {
    let report = |number: usize| {
        eventually(&format!("report {number} of the service"), 300, || {
            let log = instance.mvm(&["logs", SERVICE]).ok();
            let line = log.lines().nth(number).ok_or_else(|| log.clone());
            line.map(|line| serde_json::from_str::<Value>(line).unwrap())
        })
    };
    let first = report(0);
    instance.mvm(&["exec", "sh", "-c", "kill -9 $(cat /run/mvm/bundles/again/pid)"]).ok();
    let second = report(1);
    assert_eq!((&first["interfaces"], &second["interfaces"]), (&json!(["end", "lo"]), &json!(["end", "lo"])));
    assert_ne!(first["namespaces"]["net"], second["namespaces"]["net"]);
    let said = instance.mvm(&["logs", "init"]).ok();
    assert!(said.contains("again ended: killed by signal 9") && !said.contains("cannot"), "{said}");
}

/// An appliance with all of them, running.
fn boot(cases: &[Case]) -> Instance {
    let instance = Instance::prepared("probed");
    let layer = layer();
    let label = json!({"capabilities": ["CAP_KILL"], "binds": ["/usr/bin:/kept:ro"]}).to_string();
    for (name, labels) in [(IMAGE, json!({})), (LABELLED, json!({"org.mobyproject.config": label}))] {
        let config = json!({"Entrypoint": ["/bin/prober"], "Env": ["OF=image"], "Labels": labels});
        let image = layout_of(name, &config, std::slice::from_ref(&layer));
        instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    }
    let volumes = json!([{"name": "data", "image": IMAGE}, {"name": "whole", "image": IMAGE, "format": "oci", "readonly": true}]);
    let containers = cases.iter().map(|case| {
        let mut container = json!({"name": case.name, "image": IMAGE});
        merge(&mut container, &case.asks);
        container
    });
    let service = json!({
        "name": SERVICE, "image": IMAGE, "command": ["/bin/prober", "stay"], "net": "new", "runtime": {
            "interfaces": [{"name": "end", "peer": "other"}], "bindNS": {"net": "/run/ns/again", "mnt": "/run/ns/mnt-again"},
        },
    });
    let more = json!({"volumes": volumes, "onboot": containers.collect::<Vec<_>>(), "services": [service]});
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probed.yml");
    fs::write(&file, more.to_string()).unwrap();
    let (own, more) = (format!("{TOP}/linuxkit.yml"), file.to_str().unwrap());
    instance.mvm(&["image", "build", "--name", "test-probed", &own, more]).ok();
    Instance::up_with("probed-up", &Options::up(&["--image", "test-probed"]))
}

/// The program, and what it looks at.
fn layer() -> Vec<u8> {
    let program = built("rig", ["--bin", "prober"], STATIC);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_path_with_name(&program, "bin/prober").unwrap();
    let mut put = |path: &str, mode, contents: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(if contents.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        header.set_mode(mode);
        let contents = contents.unwrap_or_default().as_bytes();
        header.set_size(contents.len() as u64);
        builder.append_data(&mut header, path, contents).unwrap();
    };
    for directory in ["room", "kept", "hidden"] {
        put(directory, 0o755, None);
    }
    put("hidden/secret", 0o644, Some("secret"));
    put("hidden-file", 0o644, Some("secret"));
    builder.into_inner().unwrap()
}

type Numbers = BTreeMap<String, u64>;

fn namespaces_of_init(instance: &Instance) -> Numbers {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let paths = kinds.map(|kind| format!("/proc/1/ns/{kind}"));
    let mut command = vec!["exec", "stat", "-L", "-c", "%i"];
    command.extend(paths.iter().map(String::as_str));
    let found = instance.mvm(&command).ok();
    let numbers: Vec<_> = found.lines().map(|line| line.parse().unwrap()).collect();
    kinds.into_iter().map(str::to_owned).zip(numbers).collect()
}

fn numbers(namespaces: &Value) -> Numbers {
    serde_json::from_value(namespaces.clone()).unwrap()
}

/// Whose each namespace is.
fn name(own: &Numbers, known: &[(&str, &Numbers)]) -> Value {
    let whose = |(kind, number): (&String, &u64)| {
        let owner = known.iter().find(|(_, numbers)| numbers.get(kind) == Some(number));
        (kind.clone(), json!(owner.map_or("own", |(name, _)| name)))
    };
    own.iter().map(whose).collect()
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        into.clone_from(patch);
        return;
    };
    for (key, patch) in fields {
        if patch.is_null() {
            into.as_object_mut().map(|into| into.remove(key));
        } else {
            if !into.is_object() {
                *into = json!({});
            }
            merge(&mut into[key], patch);
        }
    }
}

/// A line for each value that is another.
fn differences(place: &str, expected: &Value, seen: &Value, to: &mut String) {
    if let (Some(one), Some(other)) = (expected.as_object(), seen.as_object()) {
        let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            differences(&format!("{place}: {key}"), &expected[key], &seen[key], to);
        }
    } else if expected != seen {
        writeln!(to, "{place}: it sees {seen}, not {expected}").unwrap();
    }
}
