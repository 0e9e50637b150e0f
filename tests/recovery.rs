//! A builder that dies inside its machine comes back.

mod support;

use std::process::Command;

use support::{
    Base, Instance, Process, Registry, context, docker, eventually, free_port, page, run, skipped, start,
};

/// The process id of dockerd in the guest.
fn dockerd(instance: &Instance) -> Result<String, String> {
    let found = instance.mvm(&["exec", "sh", "-c", "pidof dockerd || busybox pidof dockerd"]);
    let pid = found.stdout.trim().to_owned();
    if found.status == 0 && !pid.is_empty() { Ok(pid) } else { Err(found.to_string()) }
}

/// Builds something with this marker in it.
fn build(instance: &Instance, marker: &str) {
    let directory = context(&[("Dockerfile", "FROM scratch\nCOPY marker /\n"), ("marker", marker)]);
    instance.mvm(&["build", "-t", "recovery:1", directory.path().to_str().unwrap()]).ok();
}

fn comes_back(instance: &Instance) {
    eventually("dockerd answers again", 300, || {
        let version =
            run(docker(&instance.docker_socket()).args(["version", "--format", "{{.Server.Version}}"]));
        if version.status == 0 { Ok(()) } else { Err(version.to_string()) }
    });
}

#[test]
fn a_killed_dockerd_comes_back_and_builds() {
    if skipped("recovery") {
        return;
    }
    let instance = Instance::shared();
    let registry = Registry::open();
    let base = Base::push(instance, &registry);
    build(instance, "before");
    // As a crash ends it (exit status 2, after a dump of its goroutines), and as nothing can be caught.
    for signal in ["ABRT", "KILL"] {
        let pid = dockerd(instance).unwrap();
        instance.mvm(&["exec", "sh", "-c", &format!("kill -{signal} {pid}")]).ok();
        let new = eventually("another dockerd", 300, || match dockerd(instance) {
            Ok(found) if found != pid => Ok(found),
            other => Err(format!("{other:?}")),
        });
        assert_ne!(new, pid);
        comes_back(instance);
        build(instance, signal);
        let status = instance.status();
        assert_eq!(status["state"], "ready", "the machine itself was never touched");
        let services = status["services"].as_array().unwrap();
        let moby = services.iter().find(|service| service["name"] == "moby").unwrap();
        assert!(moby["restarts"].as_u64().unwrap() > 0 && moby["state"] == "running", "{status:#}");
        serves_a_page(instance, &base);
    }
}

/// A container's port is published on the host.
fn serves_a_page(instance: &Instance, base: &Base) {
    let port = free_port();
    let publish = format!("{port}:80");
    let script = "echo page > /index.html; httpd -f -p 80 -h /";
    let mut server =
        start(instance.command().args(["run", "--rm", "-p", &publish, &base.image, "sh", "-c", script]));
    let page = page(port, &mut server);
    assert!(page.ends_with("page\n"), "{page}");
    server.signal("INT");
    let outcome = server.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
}

/// `docker buildx history` ends some versions of dockerd (moby/buildkit pull request 6598).
#[test]
fn the_history_of_builds_does_not_take_the_instance_down() {
    if skipped("recovery") {
        return;
    }
    let instance = Instance::shared();
    let home = tempfile::tempdir().unwrap();
    let history = |arguments: &[&str]| {
        let mut command = docker(&instance.docker_socket());
        run(command.env("BUILDX_CONFIG", home.path()).args(["buildx", "history"]).args(arguments))
    };
    build(instance, "history");
    // Whether it answers or falls over is dockerd's matter; that there is a builder afterwards is ours.
    history(&["ls"]);
    history(&["rm", "--all"]);
    history(&["ls"]);
    comes_back(instance);
    build(instance, "after");
    assert_eq!(instance.status()["state"], "ready");
}

#[test]
#[ignore = "it waits for a minute"]
fn an_emulated_machine_that_says_nothing_is_started_again() {
    if skipped("recovery") {
        return;
    }
    let instance = Instance::prepared("silent");
    let mut up = start(instance.command().args(["up", "silent", "--accel", "tcg"]));
    let is_emulator = |process: &&Process| {
        process.has("qemu-system-x86_64") || process.arguments.iter().any(|one| one == "microvm")
    };
    let emulator = eventually("QEMU runs", 300, || {
        let all = instance.processes().all();
        all.iter().find(is_emulator).map(|process| process.pid).ok_or_else(|| format!("{all:?}"))
    });
    // As one that waits for what never comes.
    run(Command::new("kill").args(["-STOP", &emulator.to_string()])).ok();
    eventually("it is ended", 240, || {
        assert!(up.is_running(), "the start has ended");
        let found = instance.processes().all().iter().any(|process| process.pid == emulator);
        if found { Err("it is there".to_owned()) } else { Ok(()) }
    });
    let outcome = up.outcome();
    assert_eq!(outcome.status, 0, "{outcome}\n{}", instance.logs());
    assert!(
        instance.logs().contains("the guest has said nothing for 60 s: QEMU is started again"),
        "{}",
        instance.logs()
    );
}
