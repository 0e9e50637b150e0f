//! `mvm run`: a container behaves as a program here would.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use support::{
    AtTerminal, Base, Instance, Registry, Running, docker, eventually, free_port, page, run, run_with_input,
    skipped, start, until_it_runs_in,
};

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
    let script = "echo out $A $B $C $(hostname); echo err >&2; exit 7";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "# of a file\nA=0\nC=three\n").unwrap();
    let file = file.path().to_str().unwrap();
    let environment = ["--env-file", file, "-e", "A=1", "-e", "B", "-h", "box"];
    let arguments = [&["run", "--rm"], &environment[..], &[image(), "sh", "-c", script]].concat();
    let outcome = run(instance.command().args(arguments).env("B", "two"));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (7, "out 1 two three box\n"), "{outcome}");
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
    let interrupted = || {
        let mut child = instance.command();
        child.args(["run", "--rm", image(), "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut begin = [0; 6];
        stdout.read_exact(&mut begin).unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        (rest, child.wait().unwrap().code())
    };
    // Docker's ten seconds, after which it is killed, may pass on a busy host before the guest goes on.
    let killed = (String::new(), Some(130));
    let ended = (0..3).map(|_| interrupted()).find(|ended| *ended != killed);
    assert_eq!(ended, Some(("told\n".to_owned(), Some(5))));
}

#[test]
fn a_container_that_ignores_signals_is_killed_at_the_second() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let child = start(instance.command().args(["run", "--rm", image(), "sh", "-c", script]));
    eventually("the container runs", 300, || {
        let running = containers(instance);
        if running.contains("trap") { Ok(()) } else { Err(running) }
    });
    child.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    child.signal("TERM");
    let outcome = child.outcome();
    assert_eq!(outcome.status, 143, "{outcome}");
    assert!(!containers(instance).contains("trap"), "the container is removed");
}

#[test]
fn a_container_whose_program_crashes_under_emulation_ends_and_one_that_waits_does_not() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let run_sh = |script: &str| {
        instance.mvm(&["run", "--rm", "--platform", "linux/arm64", image(), "sh", "-c", script])
    };
    let crashed = run_sh("kill -SEGV $$");
    crashed.refused(137, "qemu: uncaught target signal 11 (Segmentation fault)");
    eventually("init tells of it", 300, || {
        let said = instance.mvm(&["logs", "init"]).ok();
        let is_told = |line: &str| line.contains("\"sh\"") && line.contains("it crashed with signal 11");
        if said.lines().any(is_told) { Ok(()) } else { Err(said) }
    });
    // A shell waits by sigsuspend, too.
    assert_eq!(run_sh("sleep 8 & wait; echo waited").ok(), "waited\n");
}

#[test]
fn a_published_port_answers_on_the_hosts_loopback_and_a_taken_one_is_refused() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
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
    let answer = page(port, &mut server);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("page\n"), "{answer}");
    let taken = instance.mvm(&serve);
    taken.refused(1, &format!("port {port} of 127.0.0.1 is taken by another program"));
    let ends = |server: Running| {
        server.signal("INT");
        let outcome = server.outcome();
        assert_eq!(outcome.status, 130, "{outcome}");
    };
    ends(server);
    // Another one may have it at once, as soon as that the supervisor holds it still.
    let mut another = start(instance.command().args(serve));
    assert!(page(port, &mut another).ends_with("page\n"));
    ends(another);
    eventually("the port is free again", 120, || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| error.to_string())
    });
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

fn follows_its_window(terminal: &mut AtTerminal) {
    terminal.resize(20, 60);
    // Until the shell has it.
    terminal.types("until [ \"$(stty size)\" = '20 60' ]; do sleep 0.1; done; echo small$((6 * 7))\n");
    terminal.sees("small42");
}

#[test]
fn a_terminal_has_its_keys_and_follows_its_window() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let mut command = instance.command();
    command.args(["run", "--rm", "-it", "--name", "terminal", image(), "sh"]);
    let mut terminal = AtTerminal::start(&command, 33, 101);
    terminal.sees("# ");
    terminal.types("stty size\n");
    terminal.sees("33 101");
    follows_its_window(&mut terminal);
    // Ctrl-C is for what runs in there.
    terminal.types("sleep 86403\n");
    // Not only typed.
    until_it_runs_in(instance, "sleep 86403");
    terminal.types("\x03");
    terminal.sees("# ");
    terminal.types("echo it was $?\n");
    terminal.sees("it was 130");
    // Bytes that begin a piece of a stream that is no terminal's.
    terminal.types("printf '\\001\\002%s\\n' there\n");
    terminal.sees("\u{1}\u{2}there");
    terminal.types("exit 3\n");
    assert_eq!(terminal.status(), 3);

    // Ctrl-P and Ctrl-Q leave it alone.
    let mut command = instance.command();
    command.args(["run", "--rm", "-it", "--name", "left", image(), "sh"]);
    let mut terminal = AtTerminal::start(&command, 24, 80);
    terminal.sees("# ");
    terminal.types("\x10\x11");
    assert_eq!(terminal.status(), 0);
    assert!(instance.mvm(&["ps"]).ok().contains("left "), "it goes on");
    instance.mvm(&["stop", "left"]).ok();
    eventually("it is removed", 300, || match instance.mvm(&["ps", "--all"]).ok() {
        listed if listed.contains("left ") => Err(listed),
        _ => Ok(()),
    });
    instance
        .mvm(&["run", "-it", image(), "sh"])
        .refused(2, "-i and -t together want a terminal, and standard input is none");
    // By itself it is for programs that show colours to a terminal only.
    let shown = instance.mvm(&["run", "--rm", "-t", image(), "sh", "-c", "test -t 1 && echo a terminal"]);
    assert_eq!(shown.ok(), "a terminal\r\n");
}

#[test]
fn a_container_goes_on_by_itself_and_is_found_by_its_name() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let script = "echo kept > file; id -u; pwd; echo wrong >&2; exec sleep 86404";
    let started = instance.mvm(&[
        "run",
        "-d",
        "--name",
        "One",
        "-v",
        "kept:/srv",
        "-w",
        "/srv",
        image(),
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(started.ok(), "One\n");
    eventually("it has said what it is", 300, || match instance.mvm(&["logs", "One"]) {
        said if said.stdout == "0\n/srv\n" && said.stderr == "wrong\n" => Ok(()),
        said => Err(said.to_string()),
    });
    let listed: serde_json::Value = serde_json::from_str(&instance.mvm(&["ps", "--json"]).ok()).unwrap();
    let one = listed.as_array().unwrap().iter().find(|one| one["name"] == "One").unwrap();
    assert_eq!((&one["state"], &one["platform"]), (&"running".into(), &"linux/amd64".into()), "{one}");
    let id = one["id"].as_str().unwrap();
    assert!(instance.mvm(&["ps", "-q"]).ok().lines().any(|line| id.starts_with(line) && line.len() == 12));
    let lines = instance.mvm(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]).ok();
    assert!(lines.lines().any(|line| line == format!("One {} running", image())), "{lines}");
    // What it has left outlives it, and others see it.
    let read = [
        "run",
        "--rm",
        "-v",
        "kept:/srv:ro",
        "-u",
        "65534",
        "--entrypoint",
        "cat",
        image(),
        "-u",
        "/srv/file",
    ];
    assert_eq!(instance.mvm(&read).ok(), "kept\n");
    let written = ["run", "--rm", "-v", "kept:/srv:ro", image(), "touch", "/srv/file"];
    instance.mvm(&written).refused(1, "Read-only file system");
    let user =
        ["run", "--rm", "-u", "65534", "--network", "none", image(), "sh", "-c", "id -u; ls /sys/class/net"];
    assert_eq!(instance.mvm(&user).ok(), "65534\nlo\n");

    // Whoever has the name keeps it, whatever becomes of the other.
    instance.mvm(&["run", "--name", "One", image(), "true"]).refused(1, "already in use");
    let missing = image().replace("base:latest", "networked:1");
    instance.mvm(&["run", "-d", "--name", "One", &missing]).refused(1, "networked:1 not found");
    instance.mvm(&["run", "--name", "One", "--pull", "never", &missing]).refused(1, "is not in the builder");
    assert!(instance.mvm(&["ps"]).ok().contains("One"), "it goes on");
    instance.mvm(&["run", "--network", "nowhere", image(), "true"]).refused(1, "network nowhere not found");
    instance.mvm(&["run", "-v", "/tmp:/srv", image()]).refused(2, "is a directory of this machine");
    instance.mvm(&["rm", "One"]).refused(1, "running");
    instance.mvm(&["stop", "One"]).ok();
    assert!(!instance.mvm(&["ps"]).ok().contains("One"));
    assert!(instance.mvm(&["ps", "--all"]).ok().contains("Exited"));
    instance.mvm(&["rm", "One"]).ok();
    instance.mvm(&["rm", "One"]).refused(2, "no instance, no builder and no container is named One");
    instance.mvm(&["run", "-d", "--name", "Two", image(), "sleep", "86404"]).ok();
    instance.mvm(&["rm", "--force", "Two"]).ok();
    assert!(!instance.mvm(&["ps", "--all"]).ok().contains("Two"));
    instance.mvm(&["logs", "One"]).refused(1, "there is no log of One; there are: ");
    instance.mvm(&["stop", "One"]).refused(2, "no instance, no builder and no container is named One");

    // What two things are called means neither.
    let name = "shared";
    instance
        .mvm(&["run", "--name", name, image()])
        .refused(2, "is the name of an instance; call the container");
    let docker = |words: &[&str]| run(docker(&instance.docker_socket()).args(words)).ok();
    docker(&["run", "-d", "--name", name, image(), "sleep", "86404"]);
    for verb in ["stop", "rm"] {
        instance.mvm(&[verb, name]).refused(2, "is the name of a container and of an instance");
    }
    docker(&["rm", "--force", name]);
}

#[test]
fn a_shell_is_a_terminal_in_the_guest() {
    if skipped("run") {
        return;
    }
    let instance = Instance::shared();
    let mut command = instance.command();
    command.arg("shell");
    let mut terminal = AtTerminal::start(&command, 31, 99);
    terminal.sees("# ");
    terminal.types("stty size; echo $TERM\n");
    terminal.sees("31 99");
    terminal.sees("xterm");
    follows_its_window(&mut terminal);
    terminal.types("exit 7\n");
    assert_eq!(terminal.status(), 7);
    let piped = run_with_input(instance.command().arg("shell"), b"echo $((6 * 7))\nexit 4\n");
    assert_eq!((piped.stdout.as_str(), piped.status), ("42\n", 4), "{piped}");
    instance.mvm(&["shell", "exit", "5"]).refused(5, "");
}
