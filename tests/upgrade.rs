//! A newer appliance on the disk of an older one, and the way back.

mod support;

use std::fs;

use support::{Instance, TOP, context, skipped};

/// What the build says of a step that it has the result of.
fn is_cached(instance: &Instance) -> bool {
    let directory = context(&[("Dockerfile", "FROM scratch\nCOPY marker /marker\n"), ("marker", "kept")]);
    let built = instance.mvm(&["build", directory.path().to_str().unwrap()]);
    let is_cached = built.stderr.contains("CACHED");
    built.ok();
    is_cached
}

#[test]
fn a_newer_appliance_takes_the_disk_with_its_cache_and_an_older_one_leaves_it_alone() {
    if skipped("upgrade") {
        return;
    }
    let instance = Instance::up("upgrade");
    assert!(!is_cached(&instance), "nothing was built before");
    instance.mvm(&["down", "upgrade"]).ok();

    let directory = tempfile::tempdir().unwrap();
    let definition = fs::read_to_string(format!("{TOP}/linuxkit.yml")).unwrap();
    let newer = definition.replace(r#""-version", "1""#, r#""-version", "2""#);
    assert_ne!(newer, definition, "the definition gives a version");
    let file = directory.path().join("newer.yml");
    fs::write(&file, newer).unwrap();
    // A definition is built where it is named.
    let up = |image: &str| instance.mvm(&["up", "upgrade", "--image", image]);
    up(file.to_str().unwrap()).ok();
    assert!(is_cached(&instance), "the cache is that of the older one");
    instance.mvm(&["down", "upgrade"]).ok();

    let older = up("mvm/appliance:latest");
    older.refused(1, "the boot failed at 003-mount: ");
    older.refused(
        1,
        "the data disk is of version 2, and this appliance knows version 1: a newer one has used it",
    );
    up(file.to_str().unwrap()).ok();
    assert!(is_cached(&instance), "nothing was lost");
}
