//! `mvm bake`, which hands over to buildx.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Instance, Workbench, buildx, left_out, run, skipped};

#[test]
fn targets_of_a_file_are_built_by_buildx_in_our_builder() {
    if skipped("bake") {
        return;
    }
    let bench = Workbench::open();
    let directory = bench.context("RUN uname -m > /machine\n", &[]);
    let image = |name: &str| bench.registry.image(&format!("{name}:baked"));
    let file = json!({
        "group": { "default": { "targets": ["one", "two"] } },
        "target": {
            "one": {
                "tags": [image("one")],
                "output": ["type=registry"],
                "platforms": ["linux/amd64", "linux/arm64"],
            },
            "two": { "tags": [image("two")], "args": { "A": "1" } },
        },
    });
    fs::write(directory.path().join("docker-bake.json"), file.to_string()).unwrap();
    // A plugin, as a package has it, and no program in PATH.
    let home = tempfile::tempdir().unwrap();
    let plugin = buildx(&bench.instance.docker_socket()).get_program().to_owned();
    fs::create_dir(home.path().join("cli-plugins")).unwrap();
    std::os::unix::fs::symlink(plugin, home.path().join("cli-plugins/docker-buildx")).unwrap();
    let bake = |configuration: &std::path::Path, arguments: &[&str]| {
        let mut command = bench.instance.command();
        command.current_dir(directory.path()).env("DOCKER_CONFIG", configuration).arg("bake").args(arguments);
        run(&mut command)
    };
    let built = bake(home.path(), &["--progress", "plain", "--provenance=false"]);
    assert_eq!(built.status, 0, "{built}");
    let seen = bench.instance.mvm(&["imagetools", "inspect", &image("one")]).ok();
    assert!(seen.contains("linux/amd64") && seen.contains("linux/arm64"), "{seen}");
    let known =
        bench.instance.mvm(&["run", "--rm", "--pull", "never", &image("two"), "cat", "/machine"]).ok();
    assert_eq!(known, "x86_64\n", "what has no output is where `mvm run` finds it");
    assert_eq!(bake(home.path(), &["unknown"]).status, 1);
}

#[test]
fn it_says_so_where_docker_buildx_is_not_installed() {
    if skipped("bake") {
        return;
    }
    let tops = ["/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec"];
    let plugins = tops.map(|top| PathBuf::from(top).join("docker/cli-plugins"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).chain(plugins).any(|place| place.join("docker-buildx").exists()) {
        left_out("places of plugins without docker-buildx");
        return;
    }
    Instance::bare("bake")
        .mvm(&["bake"])
        .refused(1, "mvm bake needs docker-buildx, which is neither in PATH nor among");
}
