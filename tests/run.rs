//! `mvm run`: a container behaves as a program here would.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::{Base, Instance, Registry, docker, page, run, skipped, start};

/// The base image in a registry that stays up as long as the tests run.
fn image() -> &'static str {
    static IMAGE: OnceLock<(Registry, Base)> = OnceLock::new();
    let (_, base) = IMAGE.get_or_init(|| {
        let registry = Registry::open();
        let base = Base::push(Instance::shared(), &registry);
        (registry, base)
    });
    &base.image
}

/// The containers that the daemon has.
fn containers(instance: &Instance) -> String {
    run(docker(&instance.docker_socket()).args([
        "ps",
        "--all",
        "--format",
        "{{.Image}} {{.Status}} {{.Command}}",
    ]))
    .ok()
}

#[test]
fn output_status_and_environment_are_the_containers() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let script = "echo out $A $B; echo err >&2; exit 7";
    let arguments = ["run", "--rm", "-e", "A=1", "-e", "B", image(), "sh", "-c", script];
    let outcome = run(instance.command().args(arguments).env("B", "two"));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (7, "out 1 two\n"), "{outcome}");
    outcome.refused(7, "err\n");
    assert!(!containers(instance).contains("echo out"), "the container is removed");
}

#[test]
fn stdin_reaches_the_container_and_ends() {
    if skipped("run") {
        return;
    }
    let mut command = Instance::shared().command();
    command.args(["run", "--rm", "-i", image(), "wc", "-c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[b'x'; 300_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "300000");
}

#[test]
fn signals_are_the_containers() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let script = "trap 'echo told; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = instance.command();
    child.args(["run", "--rm", image(), "sh", "-c", script]).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut begin = [0; 6];
    stdout.read_exact(&mut begin).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("told\n", Some(5)));
}

#[test]
fn a_container_that_ignores_signals_is_killed_at_the_second() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let child = start(instance.command().args(["run", "--rm", image(), "sh", "-c", script]));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !containers(instance).contains("trap") {
        assert!(Instant::now() < deadline, "the container does not run");
        std::thread::sleep(Duration::from_millis(100));
    }
    child.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    child.signal("TERM");
    let outcome = child.outcome();
    assert_eq!(outcome.status, 143, "{outcome}");
    assert!(!containers(instance).contains("trap"), "the container is removed");
}

#[test]
fn a_published_port_answers_on_the_hosts_loopback_and_a_taken_one_is_refused() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    let serve =
        ["run", "--rm", "-p", &publish, image(), "sh", "-c", "echo page > /index.html; httpd -f -p 80 -h /"];

    let refused = instance.mvm(&serve);
    refused.refused(
        1,
        &format!("port {port} of 127.0.0.1 is taken by another program; choose another one, as -p "),
    );

    drop(listener);
    let mut server = start(instance.command().args(serve));
    let page = page(port, &mut server);
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.ends_with("page\n"), "{page}");
    server.signal("INT");
    let outcome = server.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
}

#[test]
fn what_cannot_run_is_said() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let base = image();
    instance.mvm(&["run", "--rm", base, "nosuchprogram"]).refused(127, "cannot run \"nosuchprogram\" in ");
    instance.mvm(&["run", "--rm", "--platform", "linux/s390x", base]).refused(
        1,
        &format!(
            "image {base} is not for linux/s390x; it is for linux/amd64, linux/arm64, linux/arm/v7; pass one of them as --platform"
        ),
    );
    let missing = base.replace("base:latest", "missing:1");
    instance.mvm(&["run", "--rm", &missing]).refused(
        1,
        &format!(
            "image {missing} not found: the registry {} has no such image",
            base.replace("/base:latest", "")
        ),
    );
    instance
        .mvm(&["run", "--rm", "--pull", "never", &missing])
        .refused(1, &format!("image {missing} is not in the builder, and --pull never forbids to fetch it"));
}
