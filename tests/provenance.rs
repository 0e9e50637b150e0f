//! What an appliance is made of: told of each file and each container, and listed in its bill of materials.

mod support;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use support::{Instance, layout_of, skipped};

const DEFINITION: &str = "kernel: {image: mvm/kernel}
init: [mvm/init]
services:
  - name: tool
    image: test/tool:1
    capabilities.add: [CAP_CHOWN]
    readonly: true
files:
  - path: etc/motd
    contents: hello
";
const LABEL: &str = r#"{"capabilities": ["CAP_KILL"], "net": "new"}"#;
const PACKAGES: &str = "P:musl\nV:1.2.5-r9\nA:x86_64\no:musl\n\n";

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, path, contents.as_bytes()).expect("a file is packed");
    }
    builder.into_inner().expect("the layer is finished")
}

#[test]
fn everything_in_an_appliance_has_an_origin() {
    if skipped("provenance") {
        return;
    }
    let instance = Instance::bare("origin");
    let directory = tempfile::tempdir().unwrap();
    let definition = directory.path().join("own.yml");
    fs::write(&definition, DEFINITION).unwrap();
    let config = json!({"Cmd": ["/bin/tool"], "Env": ["A=1"], "Labels": {"org.mobyproject.config": LABEL}});
    let layers = [
        layer(&[("bin/tool", "one"), ("etc/os-release", "ID=alpine\n"), ("lib/apk/db/installed", PACKAGES)]),
        layer(&[("bin/tool", "two")]),
    ];
    let image = layout_of("test/tool:1", &config, &layers);
    instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    let path = definition.to_str().unwrap();
    instance.mvm(&["image", "build", "--relock", "--name", "test-origin", path]).ok();

    let told = |what: &str, of: &[&str]| {
        let told = instance.mvm(&[&["image", "explain", "--json", what], of].concat()).ok();
        serde_json::from_str::<Value>(&told).expect("`mvm image explain --json` prints JSON")
    };
    let stored = |what: &str| told(what, &["--image", "test-origin"]);

    let package = stored("/bin/busybox");
    assert_eq!(package["path"][0]["origin"]["material"]["package"]["name"], "busybox-static", "{package}");
    assert_eq!(
        package["path"][0]["origin"]["item"]["at"],
        json!({"file": "own.yml", "line": 2, "column": 8})
    );
    let file = stored("etc/motd");
    assert_eq!(file["path"][0]["origin"]["material"], "file", "{file}");
    assert_eq!(file["path"][0]["origin"]["item"]["at"], json!({"file": "own.yml", "line": 9, "column": 5}));

    let tool = stored("tool:/bin/tool");
    let found = &tool["path"][0];
    assert_eq!(found["path"], "/containers/services/tool/rootfs/bin/tool");
    assert_eq!(found["origin"]["image"]["name"], "test/tool:1");
    assert_eq!(found["origin"]["material"]["layer"]["number"], 2, "{tool}");
    assert_eq!(found["replaced"][0]["material"]["layer"]["number"], 1, "{tool}");
    assert_eq!(found["origin"]["item"]["index"], 0);

    let container = stored("tool");
    let fields = container["container"]["fields"].as_array().unwrap();
    let said = |name: &str| &fields.iter().find(|field| field["name"] == name).unwrap()["said"];
    let line = json!({"definition": {"file": "own.yml", "line": 6, "column": 5}});
    assert_eq!(
        *said("capabilities"),
        json!([{"value": ["CAP_KILL"], "by": "label"}, {"value": ["CAP_CHOWN"], "by": line}])
    );
    assert_eq!(*said("command"), json!([{"value": ["/bin/tool"], "by": "configuration"}]));
    assert_eq!(told("tool", &[path]), container, "it is the same before it is built");

    let text = instance.mvm(&["image", "explain", "tool", "--image", "test-origin"]).ok();
    assert!(text.contains("[\"CAP_KILL\"]  the label of test/tool:1\n"), "{text}");
    instance
        .mvm(&["image", "explain", "/bin/busibox", "--image", "test-origin"])
        .refused(1, "there is no /bin/busibox in the appliance; there are /usr/bin/busybox, ");
    instance
        .mvm(&["image", "explain", "/x", "--image", "no-such"])
        .refused(1, "there is no appliance no-such");

    materials(&instance);
}

/// The bill of materials lists packages of all kinds, and is one.
fn materials(instance: &Instance) {
    let bill = instance.mvm(&["image", "sbom", "test-origin"]).ok();
    assert!(!bill.contains("/tmp/"), "paths of the host are nobody's business: {bill}");
    let bill: Value = serde_json::from_str(&bill).expect("the bill is JSON");
    let packages = bill["packages"].as_array().unwrap();
    let known = packages.iter().map(|package| package["SPDXID"].as_str().unwrap());
    let known: BTreeSet<_> = known.chain(["SPDXRef-DOCUMENT"]).collect();
    assert_eq!(known.len(), packages.len() + 1, "each has an id of its own");
    for relationship in bill["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(known.contains(relationship[end].as_str().unwrap()), "{relationship}");
        }
    }
    let references =
        packages.iter().filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str());
    let references: Vec<_> = references.collect();
    for start in [
        "pkg:deb/debian/busybox-static@",
        "pkg:deb/debian/busybox@",
        "pkg:deb/debian/linux-source-6.12@",
        "cpe:2.3:o:linux:linux_kernel:6.12.",
        "pkg:cargo/tokio@",
        "pkg:oci/tool@sha256:",
        "pkg:apk/alpine/musl@1.2.5-r9?arch=x86_64",
    ] {
        assert!(
            references.iter().any(|found| found.starts_with(start)),
            "there is no {start}: {references:#?}"
        );
    }
    let tools = references.iter().filter(|found| found.contains("proptest") || found.contains("gcc"));
    assert_eq!(tools.count(), 0, "what builds and tests it is no part of it");
}
