//! Machines come and go, also the hard way; what was built stays.

mod support;

use std::fs::File;

use support::{Base, Instance, Process, Registry, context, eventually, skipped, start, steps};

/// What is killed, and what `mvm status` says of it.
const KILLED: [(&str, &str); 4] = [
    ("supervise", "its supervisor was killed while it was ready"),
    ("qemu-system", "signal: 9 (SIGKILL)"),
    ("machine", "signal: 9 (SIGKILL)"),
    ("passt", "passt"),
];

/// Builds something with this marker in it; whether each step came from the cache.
fn build(instance: &Instance, base: &Base, marker: &str) -> Vec<bool> {
    let dockerfile = format!("ARG BASE=busybox\nFROM ${{BASE}}\nRUN echo {marker} > /marker\n");
    let directory = context(&[("Dockerfile", &dockerfile)]);
    let path = directory.path().to_str().unwrap();
    let base = format!("BASE={}", base.image);
    let outcome = instance.mvm(&["build", "--build-arg", &base, "--progress", "plain", path]);
    assert_eq!(outcome.status, 0, "{outcome}\n{}", instance.logs());
    let steps = steps(&outcome.stderr);
    assert!(!steps.is_empty(), "no step in {outcome}");
    steps.into_iter().map(|(_, cached)| cached).collect()
}

/// Nobody holds the instance's lock.
fn lock_is_free(instance: &Instance) -> bool {
    let file = File::open(instance.state().join("lock")).expect("the lock file is there");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[test]
fn cache_and_lock_outlive_every_end_of_a_machine() {
    if skipped("lifecycle") {
        return;
    }
    let instance = Instance::up("cycle");
    let registry = Registry::open();
    let base = Base::push(&instance, &registry);
    assert_eq!(build(&instance, &base, "one"), [false]);

    // A second `up` finds the first one's machine.
    let supervisor = instance.status()["supervisor_pid"].clone();
    assert!(supervisor.is_u64(), "{supervisor}");
    instance.mvm(&["up", "cycle"]).ok();
    assert_eq!(instance.status()["supervisor_pid"], supervisor, "the supervisor is the same");

    // An orderly end leaves nothing but the cache.
    let processes = instance.processes();
    assert!(!processes.all().is_empty());
    instance.mvm(&["down", "cycle"]).ok();
    processes.expect_none();
    assert!(lock_is_free(&instance));
    assert!(!instance.docker_socket().exists(), "clients are refused");
    instance.mvm(&["up", "cycle"]).ok();
    assert_eq!(build(&instance, &base, "one"), [true], "the layer built before `down` is cached");

    // Whichever part dies, all end, and it is said which it was.
    for (part, reason) in KILLED {
        let processes = instance.processes();
        processes.with_argument(part).kill();
        processes.expect_none();
        assert!(lock_is_free(&instance), "the lock is free after {part} was killed");
        assert!(!instance.docker_socket().exists() || part == "supervise", "clients are refused");
        instance.mvm(&["run", "--rm", "busybox"]).refused(3, "no builder answers at ");
        let status = instance.status();
        assert_eq!(status["state"], "failed", "{status}");
        assert!(status["reason"].as_str().is_some_and(|told| told.contains(reason)), "{reason}: {status}");
        instance.mvm(&["up", "cycle"]).ok();
        assert_eq!(build(&instance, &base, "one"), [true], "the cache outlives a killed {part}");
    }
}

#[test]
fn of_two_that_start_it_at_once_neither_fails() {
    if skipped("lifecycle") {
        return;
    }
    let instance = Instance::prepared("race");
    let starts = [(); 2].map(|()| start(instance.command().args(["up", "race"])));
    for start in starts {
        start.outcome().ok();
    }
    assert_eq!(instance.status()["state"], "ready");

    // Processes that do not react any more are no reason to hang.
    let processes = instance.processes();
    processes.with_argument("machine").signal("STOP");
    processes.with_argument("qemu-system").signal("STOP");
    let down = instance.mvm(&["down", "race"]);
    down.refused(0, "race did not power off in time, and was killed");
    processes.expect_none();
    assert!(lock_is_free(&instance));
    instance.mvm(&["up", "race"]).ok();
}

#[test]
fn ctrl_c_during_a_start_leaves_nothing() {
    if skipped("lifecycle") {
        return;
    }
    let instance = Instance::prepared("cut");
    let up = start(instance.command().args(["up", "cut"]));
    eventually("QEMU runs", 300, || {
        // Before that one may be asked for its version.
        let is_machine = |process: &Process| process.has("qemu-system") && process.has("-kernel");
        let runs = instance.processes().all().iter().any(is_machine);
        if runs { Ok(()) } else { Err("not yet".into()) }
    });
    let processes = instance.processes();
    up.signal("INT");
    let outcome = up.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    processes.expect_none();
    assert!(lock_is_free(&instance));
    assert_eq!(instance.status()["state"], "stopped");
}

#[test]
fn two_instances_side_by_side() {
    if skipped("two-instances") {
        return;
    }
    let (one, two) = (Instance::up("one"), Instance::up("two"));
    let registry = Registry::open();
    let base = Base::push(&one, &registry);
    assert_eq!(build(&one, &base, "same"), [false]);
    assert_eq!(build(&two, &base, "same"), [false], "each has its own cache");
    one.mvm(&["down", "one"]).ok();
    assert_eq!(build(&two, &base, "same"), [true], "the other one goes on");
    one.mvm(&["run", "--rm", &base.image]).refused(3, "no builder answers at ");
}
