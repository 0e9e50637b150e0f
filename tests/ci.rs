//! `mvm ci`: a builder for one job, and what it leaves.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{
    Base, Instance, MVM, Registry, context, docker_configured_by, eventually, run, skipped, start, steps,
};

fn report(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("mvm-ci.json")).unwrap()).unwrap()
}

/// No instance is left, and no process of one.
#[track_caller]
fn nothing_is_left(home: &Instance) {
    let listed = run(home.elsewhere().args(["ls", "--json"])).ok();
    assert_eq!(listed, "[]\n");
    home.processes().expect_none();
}

#[test]
fn a_job_has_a_builder_of_its_own_and_the_next_one_has_its_cache() {
    if skipped("ci") {
        return;
    }
    let home = Instance::prepared("ci");
    let scratch = tempfile::tempdir().unwrap();
    let (cache, reports) = (scratch.path().join("cache"), scratch.path().join("reports"));
    let registry = Registry::open();
    let directory =
        context(&[("Dockerfile", "FROM busybox AS built\nRUN uname -m > /machine\n"), ("file", "content\n")]);
    // The job makes its base image itself: there is no builder before it.
    let base = Base::context();
    let image = registry.image("job:1");
    let script = format!(
        "set -e; p='--platform linux/amd64,linux/arm64'; \"$MVM\" build $p -t {base}:1 --push {context_of_base}; \
         \"$MVM\" build $p --build-context busybox=docker-image://{base}:1 -t {image} --push {path}; \
         test -S \"${{DOCKER_HOST#unix://}}\"; echo built",
        base = registry.image("ci-base"),
        context_of_base = base.path().display(),
        path = directory.path().display(),
    );
    let job = |script: &str| {
        let mut command = home.elsewhere();
        command.args(["ci", "--memory", "2G", "--cache"]).arg(&cache).arg("--report").arg(&reports);
        run(command.env("MVM", MVM).args(["--", "sh", "-c", script]))
    };
    let first = job(&script);
    assert_eq!((first.status, first.stdout.lines().last()), (0, Some("built")), "{first}");
    nothing_is_left(&home);
    let said = report(&reports);
    assert_eq!(said["builds"].as_array().unwrap().len(), 2, "{said}");
    let platforms = said["platforms"].as_array().unwrap();
    let of_image: Vec<_> = platforms.iter().filter(|one| one["image"] == image.as_str()).collect();
    assert_eq!(of_image.len(), 2, "{said}");
    assert!(platforms.iter().all(|one| one["is_whole"] == true), "{said}");
    assert!(
        said["cache"]["restored_bytes"].is_null() && said["cache"]["kept_bytes"].as_u64() > Some(1 << 20),
        "{said}"
    );
    let junit = fs::read_to_string(reports.join("mvm-ci.xml")).unwrap();
    assert!(junit.contains("tests=\"7\" failures=\"0\""), "{junit}");

    // The second builds nothing again, for either platform; its failure is the job's.
    let second = job(&format!("{script}; exit 5"));
    assert_eq!(second.status, 5, "{second}");
    let built: Vec<_> = steps(&second.stderr).into_iter().filter(|(_, cached)| !cached).collect();
    let cached = second.stderr.lines().filter(|line| line.ends_with(" CACHED")).count();
    assert!(cached == 6 && built.is_empty(), "{cached} cached, built again: {built:?}\n{second}");
    let said = report(&reports);
    assert_eq!(said["builds"].as_array().unwrap().len(), 2, "those of the first job are not its own: {said}");
    assert!((said["status"] == 5) && said["cache"]["restored_bytes"].as_u64() > Some(1 << 20), "{said}");
    assert!(fs::read_to_string(reports.join("mvm-ci.xml")).unwrap().contains("the command failed"));
    nothing_is_left(&home);

    // One that is killed leaves nothing either, and the cache is as it was.
    let before = fs::metadata(cache.join("disk.tar")).unwrap().modified().unwrap();
    let mut command = home.elsewhere();
    command.args(["ci", "--memory", "2G", "--cache"]).arg(&cache).args(["--", "sleep", "86405"]);
    let mut killed = start(&mut command);
    let sleeping =
        || home.processes().all().into_iter().find(|process| process.arguments == ["sleep", "86405"]);
    eventually("the command runs", 600, || {
        assert!(killed.is_running(), "the job has ended");
        if sleeping().is_some() { Ok(()) } else { Err("it does not".to_owned()) }
    });
    killed.signal("KILL");
    drop(killed);
    eventually("the instance is gone", 300, || {
        match run(home.elsewhere().args(["ls", "--json"])).stdout.as_str() {
            "[]\n" => Ok(()),
            listed => Err(listed.to_owned()),
        }
    });
    // The command is its caller's, who ends it: here that is us.
    let pid = sleeping().expect("it has a life of its own").pid;
    run(Command::new("kill").arg(pid.to_string())).ok();
    home.processes().expect_none();
    assert_eq!(fs::metadata(cache.join("disk.tar")).unwrap().modified().unwrap(), before);

    // A cache that is none is said, and is no reason to fail.
    fs::write(cache.join("disk.tar"), "no archive").unwrap();
    let mut command = home.elsewhere();
    command.args(["ci", "--memory", "2G", "--cache"]).arg(&cache).args([
        "--",
        "sh",
        "-c",
        "kill -TERM $PPID; exec sleep 86406",
    ]);
    let told = run(&mut command);
    assert!(told.stderr.contains("cannot be used, so the builder begins without"), "{told}");
    assert_eq!(told.status, 143, "{told}");
    nothing_is_left(&home);
    let other = Instance::bare("other");
    fs::create_dir_all(other.state()).unwrap();
    other.mvm(&["tidy"]).refused(2, "other was not made for a job, and stays");
    assert!(other.state().exists());

    let missing = run(home.elsewhere().args(["ci", "--", "/no/such/program"]));
    missing.refused(1, "mvm: cannot start \"/no/such/program\"");
    nothing_is_left(&home);
}

#[test]
fn dockers_clients_have_the_jobs_builder_and_a_platform_that_is_not_whole_fails_the_job() {
    if skipped("ci") {
        return;
    }
    let home = Instance::prepared("ci-docker");
    let (scratch, busybox) = (tempfile::tempdir().unwrap(), Base::context());
    // Nothing is the same in both: dockerd takes a layer away although another platform has it, too.
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY busybox-$TARGETARCH /busybox\n";
    fs::write(busybox.path().join("Dockerfile"), dockerfile).unwrap();
    let client = docker_configured_by(scratch.path(), "forky");
    let script = format!(
        "set -e; \"$DOCKER\" buildx build --platform linux/amd64,linux/arm64 -t job:1 {}; \
         \"$DOCKER\" run --rm --platform linux/arm64 job:1 /busybox uname -m; \
         \"$DOCKER\" image rm --force --platform linux/arm64 job:1",
        busybox.path().display()
    );
    let mut command = home.elsewhere();
    command.args(["ci", "--memory", "2G", "--report"]).arg(scratch.path());
    command.args(["--", "sh", "-c", &script]);
    command.env("DOCKER", client.get_program()).env("DOCKER_CONFIG", scratch.path());
    // Another builder of the caller's.
    command.env("DOCKER_CONTEXT", "nowhere").env("BUILDX_BUILDER", "nowhere");
    let outcome = run(&mut command);
    outcome.refused(1, "layers of job:1 for linux/arm64 are not in the cache");
    assert!(outcome.stdout.lines().any(|line| line == "aarch64"), "{outcome}");
    let said = report(scratch.path());
    assert_eq!((said["status"].as_u64(), said["builds"].as_array().unwrap().len()), (Some(0), 1), "{said}");
    for (platform, is_whole) in [("linux/amd64", true), ("linux/arm64", false)] {
        let all = said["platforms"].as_array().unwrap();
        let found = all.iter().find(|one| one["platform"] == platform);
        assert_eq!(found.map(|one| &one["is_whole"]), Some(&Value::Bool(is_whole)), "{said}");
    }
    let junit = fs::read_to_string(scratch.path().join("mvm-ci.xml")).unwrap();
    assert!(junit.contains("tests=\"4\" failures=\"1\""), "{junit}");
    nothing_is_left(&home);
}
