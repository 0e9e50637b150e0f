//! `mvm build` as its users know such a client: what travels, what its options do, and how it ends.

use std::fs;
use std::process::Command;

use crate::support::{
    Base, Instance, Registry, Running, Workbench, context, eventually, free_port, page, run, skipped, start,
    until_it_is_gone, until_it_runs,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registries::works;

/// Starts a build that sleeps, and returns when it does.
fn sleeping_build(instance: &Instance, base: &str, seconds: &str) -> (Running, TempDir) {
    let directory = context(&[("Dockerfile", &format!("FROM {base}\nRUN sleep {seconds}\n"))]);
    let mut build = start(instance.command().arg("build").arg(directory.path()));
    until_it_runs(&mut build, instance, &format!("sleep {seconds}"));
    (build, directory)
}

#[test]
fn ctrl_c_ends_the_build_in_the_guest() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let (build, _directory) = sleeping_build(bench.instance, &bench.base.image, "86401");
    build.signal("INT");
    let outcome = build.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    until_it_is_gone(bench.instance, "sleep 86401");
}

#[test]
fn a_stage_that_runs_natively_is_not_said_to_be_emulated() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let stages = |base: &str| {
        format!(
            "FROM --platform=$BUILDPLATFORM {base} AS made\nRUN false\nFROM {base}\nCOPY --from=made /bin /x\n"
        )
    };
    let directory = context(&[("Dockerfile", &stages(&bench.base.image))]);
    let failed = bench.build(&["--platform", "linux/arm64"], &directory);
    failed.refused(1, "[made 2/2] RUN false");
    assert!(!failed.stderr.contains("qemu-aarch64"), "{failed}");
}

#[test]
fn ctrl_c_ends_a_context_that_is_on_its_way() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let directory = bench.context("COPY large /\n", &[]);
    let large = std::fs::File::create(directory.path().join("large")).unwrap();
    // More than an emulated machine takes in before the signal comes.
    large.set_len(64 << 30).unwrap();
    let build = bench.sending_build(&directory);
    build.signal("INT");
    let outcome = build.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    eventually("the builder has given it up", 300, || {
        if works(bench) { Err("it still builds".to_owned()) } else { Ok(()) }
    });
    // The next one is not held up by what is left of it.
    std::fs::write(directory.path().join("large"), "small").unwrap();
    bench.build(&[], &directory).ok();
}

#[test]
fn a_machine_that_dies_ends_the_build_with_3() {
    if skipped("build-client") {
        return;
    }
    let instance = Instance::up("dies");
    let registry = Registry::open();
    let base = Base::push(&instance, &registry);
    let (build, _directory) = sleeping_build(&instance, &base.image, "86402");
    instance.processes().with_argument("qemu-system").kill();
    build.outcome().refused(3, "the connection to the builder was lost");
}

#[test]
fn a_failure_names_what_emulates_its_step() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    // A program of the step crashes, not the step's first, which the guest has to end.
    let crash = bench.context("RUN echo before; sh -c 'kill -SEGV $$'; exit $?\n", &[]);
    let failed = bench.context("RUN echo so far && exit 7\n", &[]);
    // Steps are named for their platform where there are several, and not where there is one.
    for platforms in ["linux/arm64", "linux/arm64,linux/arm/v7"] {
        let outcome = bench.build(&["--platform", platforms], &crash);
        outcome.refused(1, " here, crashed");
        outcome.refused(1, "qemu-a");
        outcome.refused(1, ">>> RUN ");
    }
    let native = bench.build(&["--platform", "linux/amd64"], &crash);
    assert!(native.status == 1 && !native.stderr.contains("qemu-"), "{native}");
    native.refused(1, "the program crashed");
    let plain = bench.build(&["--platform", "linux/arm64"], &failed);
    plain.refused(1, " runs linux/arm64 here\n");
    plain.refused(1, "exit code: 7");
    plain.refused(1, "echo so far && exit 7");
}

/// QEMU waits for ever for a signal that does not reach the first process of a PID namespace.
#[test]
fn a_step_whose_first_process_crashes_under_emulation_ends() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    for signal in ["SEGV", "ABRT"] {
        let crash = bench.context(&format!("RUN kill -{signal} $$\n"), &[]);
        let outcome = bench.build(&["--platform", "linux/arm64"], &crash);
        outcome.refused(1, "qemu: uncaught target signal ");
        outcome.refused(1, ", which runs linux/arm64 here, crashed, or the program did");
        outcome.refused(1, "FROM --platform=$BUILDPLATFORM");
        outcome.refused(1, "exit code: 137");
        assert!(!outcome.stderr.contains("memory ran out"), "{outcome}");
    }
}

#[test]
fn only_changed_files_travel() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let large = "0123456789abcdef".repeat(200_000);
    let directory = bench.context("COPY . /data/\n", &[("large", &large), ("small", "one\n")]);
    let transferred = || {
        let outcome = bench.build(&["--progress", "plain"], &directory);
        assert_eq!(outcome.status, 0, "{outcome}");
        let mut lines = outcome.stderr.lines().rev();
        let last = lines.find(|line| line.contains("transferring context: "));
        last.unwrap_or_else(|| panic!("no transfer in {outcome}")).to_owned()
    };
    let first = transferred();
    assert!(first.contains("3.20MB"), "{first}");
    fs::write(directory.path().join("small"), "two\n").unwrap();
    let second = transferred();
    assert!(!second.contains("MB"), "{second}");
}

#[test]
fn options_do_what_they_say() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = "ARG WHO=nobody\nRUN echo $WHO > /who; cat /proc/uptime > /when\nCOPY . /data/\n\
        FROM base AS last\nRUN echo last > /stage\n";
    let files =
        [(".dockerignore", "*.log\nsecret\n!keep.log\n"), ("a.log", ""), ("keep.log", ""), ("secret", "")];
    let directory = bench.context(dockerfile, &files);
    let options = ["--target", "base", "--build-arg", "WHO=me", "-t", "options:1", "--progress", "quiet"];
    let first = bench.build(&options, &directory);
    assert_eq!(first.status, 0, "{first}");
    assert!(first.stderr.is_empty() && first.stdout.starts_with("sha256:"), "quiet: {first}");
    assert_eq!(first.stdout.lines().count(), 1, "quiet: {first}");
    let seen = bench.run("options:1", "cat /who; test -e /stage && echo stage; ls -A /data");
    assert_eq!(seen, "me\n.dockerignore\nDockerfile\nkeep.log\n");

    // The same again is the same image; without the cache it is another, since its RUN is executed again.
    assert_eq!(bench.build(&options, &directory).ok(), first.stdout);
    let uncached = bench.build(&[&options[..], &["--no-cache"]].concat(), &directory).ok();
    assert_ne!(uncached, first.stdout);

    // Without --target the last stage counts; -f names another Dockerfile, which may lie elsewhere.
    bench.build(&["-t", "options:2"], &directory).ok();
    assert_eq!(bench.run("options:2", "cat /stage"), "last\n");
    let elsewhere = bench.context("RUN echo elsewhere > /file\n", &[]);
    let file = elsewhere.path().join("Dockerfile");
    bench.build(&["-f", file.to_str().unwrap(), "-t", "options:3"], &directory).ok();
    assert_eq!(bench.run("options:3", "cat /file"), "elsewhere\n");
}

#[test]
fn steps_run_as_they_are_asked_to() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let look = "RUN cat /etc/hosts > /hosts; ls /sys/class/net > /networks; ulimit -n > /files; \
        df -k /dev/shm | tail -n 1 > /shm\n";
    let directory = bench.context(look, &[]);
    let seen = |name: &str, options: &[&str]| {
        bench.build(&[&["-t", name, "--no-cache"], options].concat(), &directory).ok();
        let all = bench.run(name, "for file in hosts networks files shm; do cat /$file; echo --; done");
        let mut files = all.split("--\n").map(str::to_owned);
        [(); 4].map(|()| files.next().unwrap())
    };
    let [hosts, networks, files, shm] = seen("steps:1", &[]);
    assert!(!hosts.contains("10.9.8.7") && networks.contains("eth0"), "{hosts}{networks}");
    // A step sees its own group as the root of all; the one above it stays behind.
    let group = || {
        let find = ["exec", "find", "/sys/fs/cgroup", "-type", "d", "-name", "mvm-steps"];
        bench.instance.mvm(&find).ok()
    };
    assert_eq!(group(), "");
    let options = [
        "--add-host",
        "there:10.9.8.7",
        "--add-host",
        "six=[fd00::1]",
        "--network",
        "none",
        "--ulimit",
        "nofile=77:99",
        "--shm-size",
        "3m",
        "--cgroup-parent",
        "mvm-steps",
    ];
    let [other_hosts, other_networks, other_files, other_shm] = seen("steps:2", &options);
    let line = |address: &str, name: &str| {
        other_hosts.lines().any(|line| line.split_whitespace().eq([address, name]))
    };
    assert!(line("10.9.8.7", "there") && line("fd00::1", "six"), "{other_hosts}");
    assert_eq!(other_networks.trim(), "lo");
    assert_eq!(other_files.trim(), "77");
    assert_ne!(files, other_files);
    assert!(other_shm.split_whitespace().any(|word| word == "3072") && shm != other_shm, "{shm}{other_shm}");
    assert_eq!(group().lines().count(), 1, "{}", group());
    // What only a machine of its own can give away.
    let insecure = bench.context("RUN cat /proc/self/status\n", &[]);
    bench.build(&["--allow", "security.insecure"], &insecure).ok();
    // Of the builder's machine, its bridge is seen too, at the address that it has for steps.
    let [hosts, of_host, ..] = seen("steps:3", &["--network", "host", "--add-host", "outer:host-gateway"]);
    assert!(of_host.contains("docker0"), "{of_host}");
    let bridge = bench.instance.mvm(&["exec", "ip", "-4", "addr", "show", "docker0"]).ok();
    let outer = hosts.lines().filter_map(|line| line.strip_suffix("outer")).next().map(str::trim);
    assert!(outer.is_some_and(|outer| bridge.contains(&format!("inet {outer}/"))), "{hosts}{bridge}");
}

#[test]
fn a_stage_may_be_built_anew_alone() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = "RUN cat /proc/uptime > /one\nFROM base AS second\nRUN cat /proc/uptime > /two\n";
    let directory = bench.context(dockerfile, &[]);
    let times = |name: &str, options: &[&str]| {
        bench.build(&[&["-t", name], options].concat(), &directory).ok();
        let both = bench.run(name, "cat /one /two");
        both.split_once('\n').map(|(one, two)| (one.to_owned(), two.to_owned())).unwrap()
    };
    let first = times("anew:1", &[]);
    assert_eq!(times("anew:2", &[]), first);
    let (one, two) = times("anew:3", &["--no-cache-filter", "second"]);
    assert_eq!(one, first.0);
    assert_ne!(two, first.1);
}

#[test]
fn an_image_is_annotated_where_it_is_asked_for() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let directory = bench.context("", &[]);
    let image = bench.registry.image("annotated:1");
    let options = [
        "-t",
        &image,
        "--push",
        "--platform",
        "linux/amd64,linux/arm64",
        "--annotation",
        "all=1",
        "--annotation",
        "index:top=2",
        "--annotation",
        "manifest[linux/arm64],manifest-descriptor:some=3",
    ];
    let digest = bench.build(&options, &directory).ok();
    let attested =
        bench.build(&[&options[..], &["--attest", "type=provenance,mode=max"]].concat(), &directory).ok();
    let read = |digest: &str| -> Value {
        serde_json::from_slice(&fs::read(bench.registry.blob(digest)).unwrap()).unwrap()
    };
    let index = read(digest.trim());
    assert_eq!(index["annotations"], json!({"top": "2"}));
    for manifest in index["manifests"].as_array().unwrap() {
        assert_eq!(manifest["annotations"]["some"], "3", "{index}");
        let of_it = &read(manifest["digest"].as_str().unwrap())["annotations"];
        let expected = match manifest["platform"]["architecture"].as_str() {
            Some("arm64") => json!({"all": "1", "some": "3"}),
            _ => json!({"all": "1"}),
        };
        assert_eq!(*of_it, expected, "{manifest}");
    }
    // What is said of each is beside it, and of no platform that runs.
    let beside = |digest: &str| {
        let all = read(digest.trim())["manifests"].as_array().unwrap().clone();
        all.iter().filter(|each| each["platform"]["os"] == "unknown").count()
    };
    assert_eq!((beside(&digest), beside(&attested)), (0, 2));
}

/// As jobs do that build each platform elsewhere: nobody sees a name before all of it is there.
#[test]
fn platforms_are_pushed_by_their_digests_and_joined() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let directory = bench.context("RUN uname -m > /machine\n", &[]);
    let repository = bench.registry.image("by-digest");
    let output = format!("type=image,name={repository},push-by-digest=true,name-canonical=true,push=true");
    let pushed = ["linux/amd64", "linux/arm64"].map(|platform| {
        let digest = bench.build(&["--platform", platform, "-o", &output], &directory).ok();
        format!("{repository}@{}", digest.trim())
    });
    let inspect = |name: &str| bench.instance.mvm(&["imagetools", "inspect", name]);
    assert_ne!(inspect(&repository).status, 0, "it has no name yet");
    let image = format!("{repository}:1");
    bench.instance.mvm(&["imagetools", "create", "-t", &image, &pushed[0], &pushed[1]]).ok();
    let joined = inspect(&image).ok();
    assert!(joined.contains("linux/amd64") && joined.contains("linux/arm64"), "{joined}");
    let tagged = bench.build(&["-t", &image, "--push", "-o", "type=image,push-by-digest=true"], &directory);
    tagged.refused(2, "is to be pushed by its digest, which gets no tag; write ");
}

#[test]
fn pushes_with_the_login_of_dockers_configuration() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let private = Registry::with_login();
    let image = private.image("private:1");
    let directory = bench.context("", &[]);
    let configuration = tempfile::tempdir().unwrap();
    let push = |login: Option<&str>| {
        let auths = login
            .map_or_else(String::new, |login| format!(r#""{}":{{"auth":"{login}"}}"#, private.address()));
        fs::write(configuration.path().join("config.json"), format!(r#"{{"auths":{{{auths}}}}}"#)).unwrap();
        let mut command = bench.command(&["-t", &image, "--push"], directory.path());
        run(command.env("DOCKER_CONFIG", configuration.path()))
    };
    let refusals = [push(None), push(Some("dXNlcjp3cm9uZw=="))];
    for refused in &refusals {
        refused.refused(1, &private.address());
        refused.refused(1, "the registry wants another login than the one in Docker's configuration");
    }
    push(Some("dXNlcjpzZWNyZXQ=")).ok();

    let nobody = bench.build(&["-t", "127.0.0.1:1/nobody:1", "--push"], &directory);
    nobody.refused(1, "127.0.0.1:1");
}

/// As with a registry that is itself a container here.
#[test]
fn a_registry_may_be_at_a_port_that_a_container_publishes() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let port = free_port();
    let publish = format!("{port}:80");
    let serve = ["run", "--rm", "-p", &publish, &bench.base.image, "httpd", "-f", "-p", "80", "-h", "/"];
    let mut server = start(bench.instance.command().args(serve));
    page(port, &mut server);
    let directory = bench.context("", &[]);
    bench.build(&["--build-arg", &format!("REGISTRY=127.0.0.1:{port}/x")], &directory).ok();
    assert!(server.is_running());
    server.signal("INT");
    server.outcome();
}

/// `eval "$(mvm env)"` is for other clients, and must not make ours take the instance for somebody else's builder.
#[test]
fn the_environment_may_point_at_the_instance_itself() {
    if skipped("build-client") {
        return;
    }
    let bench = Workbench::open();
    let image = bench.registry.image("env:1");
    let directory = bench.context("RUN uname -m > /machine\n", &[]);
    let environment: serde_json::Value =
        serde_json::from_str(&bench.instance.mvm(&["env", "--json"]).ok()).unwrap();
    let without_name = |arguments: &[&str]| {
        // Without --instance, which would win.
        let ours = bench.instance.command();
        let mut command = Command::new(ours.get_program());
        for (key, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        for variable in ["DOCKER_HOST", "BUILDKIT_HOST"] {
            command.env(variable, environment[variable].as_str().unwrap());
        }
        run(command.args(arguments))
    };
    let path = directory.path().to_str().unwrap();
    without_name(&["build", "--platform", "linux/arm64", "-t", &image, "--push", path]).ok();
    let unknown = without_name(&["build", "--platform", "linux/mips64", path]);
    unknown.refused(2, "linux/mips64 cannot run here");
    assert_eq!(
        without_name(&["run", "--rm", "--pull", "always", &image, "cat", "/machine"]).ok(),
        "aarch64\n"
    );
}
