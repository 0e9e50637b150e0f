//! The main job: one Dockerfile, three platforms, one command.

mod support;

use support::{Base, Instance, PLATFORMS, Registry, context, skipped, steps};

const DOCKERFILE: &str = "ARG BASE=busybox\nFROM ${BASE}\nRUN uname -m > /machine\nWORKDIR /data\nCOPY . .\n";

/// Builds the context for all platforms and pushes it; the plain progress.
fn build(instance: &Instance, base: &Base, image: &str, context: &str) -> String {
    let platforms = PLATFORMS.map(|(platform, _)| platform).join(",");
    let base = format!("BASE={}", base.image);
    let arguments = [
        "build",
        "--platform",
        &platforms,
        "--build-arg",
        &base,
        "-t",
        image,
        "--push",
        "--progress",
        "plain",
        context,
    ];
    let outcome = instance.mvm(&arguments);
    assert_eq!(outcome.status, 0, "{outcome}");
    outcome.stderr
}

#[test]
fn three_platforms_are_built_pushed_and_run() {
    if skipped("build") {
        return;
    }
    let instance = Instance::shared();
    let registry = Registry::open();
    let base = Base::push(instance, &registry);
    let image = registry.image("three:latest");
    let directory = context(&[("Dockerfile", DOCKERFILE), ("file", "content\n")]);
    let path = directory.path().to_str().unwrap();

    build(instance, &base, &image, path);

    let seen = instance.mvm(&["imagetools", "inspect", "--json", &image]).ok();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    let manifests = seen["manifests"].as_array().unwrap();
    let platforms: Vec<String> = manifests.iter().map(platform).collect();
    assert_eq!(platforms, PLATFORMS.map(|(platform, _)| platform), "{seen:#}");

    for (manifest, (platform, machine)) in manifests.iter().zip(PLATFORMS) {
        let name = manifest["name"].as_str().unwrap();
        let ran = instance.mvm(&["run", "--rm", name, "sh", "-c", "uname -m; cat /machine file"]).ok();
        assert_eq!(ran, format!("{machine}\n{machine}\ncontent\n"), "{platform} by digest");
        let ran = instance.mvm(&["run", "--rm", "--platform", platform, &image, "uname", "-m"]).ok();
        assert_eq!(ran, format!("{machine}\n"), "{platform} by tag");
    }

    let again = build(instance, &base, &image, path);
    let again = steps(&again);
    assert_eq!(again.len(), 9, "three steps for each of three platforms: {again:#?}");
    assert!(again.iter().all(|(_, cached)| *cached), "every step is taken from the cache: {again:#?}");
}

fn platform(manifest: &serde_json::Value) -> String {
    let platform = &manifest["platform"];
    let parts = ["os", "architecture", "variant"].map(|part| platform[part].as_str());
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}
