//! What a builder keeps: its cache and its history, as seen by mvm.

mod support;

use serde_json::Value;
use support::{Workbench, docker, run, skipped};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// When dockerd was started, by the guest's kernel.
fn dockerd(bench: &Workbench) -> String {
    let script = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2> /dev/null) in */dockerd*) \
        echo $p $(cut -d ' ' -f 22 $p/stat);; esac; done";
    bench.instance.mvm(&["exec", "sh", "-c", script]).ok()
}

/// BuildKit v0.20 to v0.28 dies of a history that is asked for with a limit, once a record has been deleted; Docker 28.5 has one of
/// those.
#[test]
fn a_history_never_crashes_dockerd_28_5() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    let daemon = dockerd(bench);
    assert_eq!(daemon.lines().count(), 1, "{daemon}");
    let directory = bench.context("RUN echo hello from a step\n", &[]);
    let failing = bench.context("RUN echo before the end; false\n", &[]);
    let metadata = directory.path().join("metadata.json");
    for number in 0..5 {
        let name = format!("history:{number}");
        bench
            .build(&["-t", &name, "--no-cache", "--metadata-file", metadata.to_str().unwrap()], &directory)
            .ok();
    }
    bench.build(&["-t", "history:failed"], &failing).refused(1, "exit code: 1");
    let mvm = |arguments: &[&str]| bench.instance.mvm(&[&["history"], arguments].concat());
    let builds = json(&mvm(&["ls", "--json"]).ok());
    let builds = builds.as_array().unwrap();
    let named = |name: &str| builds.iter().position(|build| build["name"].as_str().unwrap().contains(name));
    assert_eq!(named("history:failed"), Some(0), "the newest is first: {builds:?}");
    assert_eq!(builds[0]["status"], "error");
    assert_eq!(named("history:4"), Some(1));
    assert_eq!(builds[1]["status"], "completed");
    let id = builds[1]["id"].as_str().unwrap();
    let reference =
        json(&std::fs::read_to_string(metadata).unwrap())["buildx.build.ref"].as_str().unwrap().to_owned();
    assert!(reference.ends_with(id), "{reference} is {id}");

    // By its whole name, by its beginning, and as others write it.
    for name in [id, &id[..8], &reference] {
        let logs = mvm(&["logs", name]).ok();
        assert!(
            logs.contains("] RUN echo hello from a step\n") && logs.contains(" hello from a step\n"),
            "{logs}"
        );
    }
    let newest = mvm(&["logs"]).ok();
    assert!(newest.contains("before the end") && newest.contains("ERROR: "), "{newest}");
    let inspected = mvm(&["inspect", id]).ok();
    assert!(
        inspected.contains("Status     completed\n") && inspected.contains("containerimage.digest = sha256:"),
        "{inspected}"
    );
    let details = json(&mvm(&["inspect", "--json"]).ok());
    assert!(details["error"].as_str().unwrap().contains("exit code: 1"), "{details}");
    let table = mvm(&["ls"]).ok();
    assert!(table.contains("history:3") && table.lines().any(|line| line.contains(" error ")), "{table}");

    mvm(&["rm", id]).ok();
    mvm(&["inspect", id]).refused(2, "remembers no build");
    mvm(&["rm", "nothing-like-it"]).refused(2, "the builder remembers no build \"nothing-like-it\"");
    for _ in 0..3 {
        let left = json(&mvm(&["ls", "--json"]).ok());
        assert!(left.as_array().unwrap().iter().all(|build| build["id"] != id), "{left}");
    }
    mvm(&["rm", "--all"]).ok();
    assert_eq!(mvm(&["ls", "--json"]).ok(), "[]\n");
    mvm(&["inspect"]).refused(1, "the builder remembers no build");
    assert_eq!(dockerd(bench), daemon, "it is the same daemon as before");
}

#[test]
fn the_cache_is_shown_and_pruned_as_dockers_client_sees_it() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = "RUN dd if=/dev/zero of=/large bs=1M count=4 2> /dev/null\n\
        RUN --mount=type=cache,target=/cache,id=kept echo x > /cache/x\n";
    let directory = bench.context(dockerfile, &[]);
    bench.build(&[], &directory).ok();
    let mvm = |arguments: &[&str]| bench.instance.mvm(arguments);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let records = json(&mvm(&[&["du", "--json"], arguments].concat()).ok());
        records.as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(&[]);
    assert!(all.len() >= 3, "{all:?}");
    let theirs = run(docker(&bench.instance.docker_socket()).args(["buildx", "du"])).ok();
    assert!(all.iter().all(|id| theirs.contains(id.as_str())), "{all:?}\n{theirs}");
    let table = mvm(&["du"]).ok();
    assert!(
        table.starts_with("ID ") && table.contains("\nReclaimable ") && table.contains("\nTotal "),
        "{table}"
    );
    assert!(mvm(&["du", "--verbose"]).ok().contains("Description  "), "details");
    let mounts = ids(&["--filter", "type=exec.cachemount"]);
    assert_eq!(mounts.len(), 1, "{mounts:?}");

    mvm(&["prune"]).refused(2, "nobody can be asked here whether that is meant; say --force");
    mvm(&["prune", "--filter", "color=red"]).refused(2, "nothing is filtered by \"color\"");
    let pruned = mvm(&["prune", "--force", "--filter", "type=exec.cachemount"]).ok();
    assert!(pruned.contains(&mounts[0]) && pruned.contains("Freed "), "{pruned}");
    assert!(ids(&["--filter", "type=exec.cachemount"]).is_empty());
    assert!(ids(&[]).len() >= 2);
    let kept = mvm(&["prune", "--force", "--all", "--filter", "until=24h", "--json"]).ok();
    assert_eq!(kept, "", "all was used within a day");
    let gone = mvm(&["prune", "--force", "--all", "--json"]).ok();
    assert!(gone.lines().count() >= 2 && gone.lines().all(|line| json(line)["size"].is_u64()), "{gone}");
    assert!(ids(&[]).len() < 2, "{:?}", ids(&[]));
}
