//! Builders of several nodes: two instances of one machine, and the same builders from afar.

mod support;

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use support::{
    Act, Base, Instance, Outcome, Registry, Sshd, TlsFront, Troubled, context, eventually, run,
    run_with_input, skipped, start,
};
use tempfile::TempDir;

/// One instance, another that a builder made for itself, and the builder of both: `pair`.
struct Pair {
    near: Instance,
    registry: Registry,
    base: Base,
}

impl Pair {
    fn open() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| {
            let near = Instance::up("near");
            let registry = Registry::open();
            let base = Base::push(&near, &registry);
            let pair = Self { near, registry, base };
            let create = ["create", "--name", "pair"];
            let first = ["--node", "near", "--platform", "linux/amd64", "near"];
            pair.mvm(&[&create[..], &first].concat()).ok();
            // Another one without a place is an instance of its own.
            let second = ["--append", "--platform", "linux/arm64,linux/arm/v7", "--bootstrap"];
            assert_eq!(pair.mvm(&[&create[..], &second].concat()).ok(), "pair\n");
            pair
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.near.elsewhere();
        command.args(arguments);
        command
    }

    fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.mvm(&[arguments, &["--json"]].concat()).ok()).unwrap()
    }

    fn context(&self, steps: &str) -> TempDir {
        context(&[("Dockerfile", &format!("FROM {}\n{steps}", self.base.image)), ("file", "content\n")])
    }
}

const BOTH: [&str; 4] = ["--builder", "pair", "--platform", "linux/amd64,linux/arm64"];

fn build(arguments: &[&str], directory: &TempDir) -> Outcome {
    Pair::open().mvm(&[&["build"], &BOTH[..], arguments, &[directory.path().to_str().unwrap()]].concat())
}

#[test]
fn two_nodes_share_a_build_and_push_one_image() {
    if skipped("nodes") {
        return;
    }
    let pair = Pair::open();
    let image = pair.registry.image("both:1");
    let directory = pair.context("RUN uname -m > /machine\n");
    let (times, said) = (
        tempfile::Builder::new().suffix(".json").tempfile().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    let pushed = build(
        &[
            "--timeline",
            times.path().to_str().unwrap(),
            "-t",
            &image,
            "--push",
            "--provenance=true",
            "--annotation",
            "index:a=b",
            "--metadata-file",
            said.path().to_str().unwrap(),
        ],
        &directory,
    );
    for step in ["[near linux/amd64 2/2] RUN uname", "[pair0 linux/arm64 2/2] RUN uname"] {
        assert!(pushed.stderr.contains(step), "no {step} in {pushed}");
    }
    for step in ["[near linux/arm64 2/2]", "[pair0 linux/amd64 2/2]"] {
        assert!(!pushed.stderr.contains(step), "{step} in {pushed}");
    }
    let digest = pushed.ok();
    let said: Value = serde_json::from_str(&std::fs::read_to_string(said.path()).unwrap()).unwrap();
    assert_eq!(
        (said["image.name"].as_str(), said["containerimage.digest"].as_str()),
        (Some(&*image), Some(digest.trim()))
    );
    let timeline: Value = serde_json::from_str(&std::fs::read_to_string(times.path()).unwrap()).unwrap();
    let of = |name: &str| {
        let mut steps = timeline["steps"].as_array().unwrap().iter();
        let step = steps.find(|step| step["name"].as_str().unwrap().starts_with(name));
        step.unwrap_or_else(|| panic!("no {name} in {timeline}")).clone()
    };
    let emulated = of("[pair0 linux/arm64 2/2] RUN uname");
    assert_eq!((&emulated["platform"], &emulated["kind"]), (&"linux/arm64".into(), &"emulated".into()));
    assert_eq!(of("[near linux/amd64 2/2] RUN uname")["platform"], "linux/amd64");
    assert_eq!(of("[near] exporting to image")["kind"], "export");
    let index: Value =
        serde_json::from_str(&pair.mvm(&["imagetools", "inspect", "--raw", &image]).ok()).unwrap();
    let mut platforms: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    platforms.sort_by_key(|entry| entry["platform"]["architecture"].to_string());
    let architectures: Vec<_> = platforms.iter().map(|entry| &entry["platform"]["architecture"]).collect();
    assert_eq!(architectures, ["amd64", "arm64", "unknown", "unknown"], "each has its attestation");
    assert_eq!(index["annotations"]["a"], "b");
    let inspected = pair.json(&["imagetools", "inspect", &image]);
    assert_eq!(inspected["digest"], digest.trim());

    // Files come from both, and a context that is a stream goes to both. Its Dockerfile opens no port of this host, so the base's
    // name is an argument.
    let out = tempfile::tempdir().unwrap();
    let streamed = context(&[("Dockerfile", "ARG BASE\nFROM $BASE\nRUN uname -m > /machine\n")]);
    let archive = run(Command::new("tar").args(["-C", streamed.path().to_str().unwrap(), "-cf", "-", "."]));
    let base = format!("BASE={}", pair.base.image);
    let more = ["--build-arg", &base, "-o", out.path().to_str().unwrap(), "-"];
    let words = [&["build"], &BOTH[..], &more].concat();
    run_with_input(&mut pair.command(&words), archive.ok().as_bytes()).ok();
    let machine =
        |platform: &str| std::fs::read_to_string(out.path().join(platform).join("machine")).unwrap();
    assert_eq!((machine("linux_amd64").as_str(), machine("linux_arm64").as_str()), ("x86_64\n", "aarch64\n"));

    // A platform that nobody was told to build is built by who runs it, and a build of one platform by one node.
    let bare = context(&[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "content\n")]);
    let bare = bare.path().to_str().unwrap();
    let words = ["build", "--builder", "pair", "--platform", "linux/386", "-t", "one", bare];
    let built = pair.mvm(&words);
    assert_eq!(built.status, 0, "{built}");
    assert!(built.stderr.contains("[1/1] COPY file /"), "{built}");
    let loaded = pair.context("COPY file /\n");

    let image = build(&["-t", "apart"], &loaded);
    assert!(image.stderr.contains("each node keeps the image of its own platforms"), "{image}");
    assert_eq!(image.ok(), "", "there is no digest of all");
    build(&["-o", "type=oci,dest=x.tar"], &loaded)
        .refused(2, "type=oci is made by one node, and these platforms need");
    build(&["--load"], &loaded).refused(2, "type=docker is made by one node");
    build(&["--iidfile", "id"], &loaded).refused(2, "each node keeps one of its own; push it");
    build(&["--cache-to", "type=local,dest=x"], &loaded).refused(2, "each node would write --cache-to");
    let unknown =
        ["build", "--builder", "pair", "--platform", "linux/mips64", loaded.path().to_str().unwrap()];
    pair.mvm(&unknown).refused(2, "no node of the builder can build for linux/mips64\n  near: ");

    // What builders keep is told node by node.
    let usage = pair.json(&["du", "--builder", "pair"]);
    let nodes = |of: &Value| of.as_array().unwrap().iter().map(|one| one["node"].clone()).collect::<Vec<_>>();
    for node in ["near", "pair0"] {
        assert!(nodes(&usage).contains(&node.into()), "no {node} in {usage}");
        assert!(nodes(&pair.json(&["history", "ls", "--builder", "pair"])).contains(&node.into()));
    }
    let text = pair.mvm(&["du", "--builder", "pair"]).ok();
    assert!(text.starts_with("Node near:\nID ") && text.contains("\nNode pair0:\nID "), "{text}");
}

#[test]
fn ctrl_c_while_images_are_joined() {
    if skipped("nodes") {
        return;
    }
    let pair = Pair::open();
    let registry = Troubled::before(&pair.registry);
    let directory = pair.context("COPY file /\n");
    let image = registry.image("joined:never");
    // The nodes push what has no name; only the whole gets this one.
    registry.begin(Act::Wait(Duration::from_secs(3600)), 1, |request| {
        request.method() == "PUT" && request.path().ends_with("/manifests/never")
    });
    let words = ["-t", &image, "--push", directory.path().to_str().unwrap()];
    let mut building = start(&mut pair.command(&[&["build"], &BOTH[..], &words].concat()));
    eventually("the whole is pushed", 600, || {
        assert!(building.is_running(), "the build has ended");
        if registry.count() == 1 { Ok(()) } else { Err("it is not yet".to_owned()) }
    });
    building.signal("INT");
    let outcome = building.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    pair.mvm(&["imagetools", "inspect", &pair.registry.image("joined:never")]).refused(1, "joined:never");
}

#[test]
fn a_node_that_dies_ends_the_build_with_its_name() {
    if skipped("nodes") {
        return;
    }
    let pair = Pair::open();
    // A second builder, so that no other test misses a node.
    let create = ["create", "--name", "frail", "--node"];
    pair.mvm(&[&create[..], &["near", "near"]].concat()).ok();
    let second = ["--append", "--platform", "linux/arm64", "--bootstrap"];
    let own = |name: &str| pair.mvm(&[&create[..], &[name], &second].concat());
    own("frail").refused(2, "cannot be named frail, as a builder is");
    own("weak").ok();
    let directory = pair.context("RUN sleep 86402\n");
    let path = directory.path().to_str().unwrap();
    let words = ["build", "--builder", "frail", "--platform", "linux/amd64,linux/arm64", path];
    let mut building = start(&mut pair.command(&words));
    let sleeps = |instance: &str| {
        let running =
            ["--instance", instance, "exec", "--", "sh", "-c", "ps -o args | grep -c '[s]leep 86402'"];
        pair.mvm(&running).stdout.trim().parse::<u32>().unwrap_or(0)
    };
    eventually("both nodes build", 900, || {
        assert!(building.is_running(), "the build has ended");
        match (sleeps("near"), sleeps("weak")) {
            (0, _) | (_, 0) => Err("one of them does not".to_owned()),
            _ => Ok(()),
        }
    });
    let status = pair.json(&["status", "weak"]);
    run(Command::new("kill").args(["-9", &status["supervisor_pid"].to_string()])).ok();
    let outcome = building.outcome();
    outcome.refused(3, "mvm: node weak: the connection to the builder was lost during the build");
    eventually("the other node has stopped", 300, || match sleeps("near") {
        0 => Ok(()),
        count => Err(format!("{count} sleep")),
    });

    // It is left out of what others can do, and said to be.
    let small = pair.context("COPY file /\n");
    let words = ["build", "--builder", "frail", "--platform", "linux/amd64", small.path().to_str().unwrap()];
    let built = pair.mvm(&words);
    assert!(
        built.stderr.contains("node weak is left out: it does not run; `mvm inspect --bootstrap frail`"),
        "{built}"
    );
    assert_eq!(built.status, 0, "{built}");
    for words in [&["du", "--builder", "frail"][..], &["history", "--builder", "frail", "ls"]] {
        let told = pair.mvm(words);
        assert!(told.stderr.contains("node weak is left out: "), "{told}");
        assert!(told.ok().lines().count() > 1);
    }
    let listed = pair.mvm(&["ls"]).ok();
    assert!(listed.contains("\nfrail\n"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with(" \\_ weak") && line.contains("silent")), "{listed}");
    let listed = pair.mvm(&["ls", "--format", "{{.Name}}:{{.Status}}:{{.DriverEndpoint}}"]).ok();
    assert!(listed.contains("\nfrail::\nnear:running:near\nweak:error:weak\n"), "{listed}");

    // The node goes as it came.
    pair.mvm(&["create", "--name", "frail", "--node", "weak", "--leave"]).ok();
    assert!(!pair.near.home().join("s/mvm/weak").exists(), "its instance stays");
    pair.mvm(&["rm", "frail"]).ok();
    pair.mvm(&["status", "near"]).ok();
}

#[test]
fn builders_are_reached_over_tls_and_ssh() {
    if skipped("nodes") {
        return;
    }
    let pair = Pair::open();
    let front = TlsFront::of(pair.near.buildkit_socket());
    let home = pair.near.home();
    let sshd = Sshd::serving(&[
        ("XDG_STATE_HOME", home.join("s")),
        ("XDG_RUNTIME_DIR", home.join("r")),
        ("XDG_CONFIG_HOME", home.join("c")),
        ("XDG_DATA_HOME", Instance::data()),
    ]);
    let tcp = format!("tcp://127.0.0.1:{}", front.port);
    let create = |name: &str, more: &[&str]| pair.mvm(&[&["create", "--name", name], more].concat());
    create("tls", &["--driver-opt", &front.options(true), &tcp]).ok();
    create("stranger", &["--driver-opt", &front.options(false), &tcp]).ok();
    create("there", &[&format!("ssh://127.0.0.1:{}/near", sshd.port)]).ok();
    create("nowhere", &[&format!("ssh://127.0.0.1:{}/none", sshd.port)]).ok();
    create("tls", &[&tcp]).refused(2, "there is a builder named tls already; --append adds a node");
    create("near", &[&tcp]).refused(2, "there is an instance named near, which is a builder by itself");
    create("other", &["absent"]).refused(2, "no instance is named absent");
    // What a builder is going to make for itself is nobody else's.
    create("later", &["--node", "own"]).ok();
    create("other", &["--node", "own"]).refused(2, "there is an instance named own already");
    create("own", &[&tcp]).refused(2, "there is an instance named own, which is a builder by itself");
    pair.mvm(&["rm", "later"]).ok();

    let directory = context(&[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "content\n")]);
    let path = directory.path().to_str().unwrap();
    let mvm = |words: &[&str]| run(sshd.known_to(&mut pair.command(words)));
    for builder in ["tls", "there"] {
        let out = tempfile::tempdir().unwrap();
        mvm(&["build", "--builder", builder, "-o", out.path().to_str().unwrap(), path]).ok();
        assert_eq!(std::fs::read_to_string(out.path().join("file")).unwrap(), "content\n", "{builder}");
        let inspected: Value =
            serde_json::from_str(&mvm(&["inspect", "--bootstrap", "--json", builder]).ok()).unwrap();
        assert_eq!(inspected["nodes"][0]["platforms"][0]["platform"], "linux/amd64", "{inspected}");
    }
    let stranger = mvm(&["build", "--builder", "stranger", path]);
    stranger.refused(3, &format!("mvm: no builder answers at {tcp}"));
    let nowhere = mvm(&["build", "--builder", "nowhere", path]);
    nowhere.refused(3, "no builder answers at the other end of `ssh");
    assert!(
        nowhere.stderr.contains("none/buildkit.sock\"; start it with `mvm inspect --bootstrap`"),
        "{nowhere}"
    );

    // What is used where nothing is named.
    mvm(&["use", "there"]).ok();
    let listed: Value = serde_json::from_str(&mvm(&["ls", "--json"]).ok()).unwrap();
    let used: Vec<_> = listed.as_array().unwrap().iter().filter(|one| one["used"] == true).collect();
    assert_eq!(used.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["there"], "{listed}");
    assert!(mvm(&["inspect"]).ok().starts_with("Name:        there\nNodes:\n  Name:      there0\n"));
    let named = mvm(&["--instance", "near", "inspect"]).ok();
    assert!(named.starts_with("Name:        near\n"), "a name counts before what is used: {named}");
    mvm(&["rm", "--all-inactive"]).refused(2, "nobody can be asked here whether that is meant; say --force");
    mvm(&["rm", "--all-inactive", "--force"]).ok();
    let left = mvm(&["ls", "--format", "{{.Name}}"]).ok();
    let names: Vec<_> = left.lines().collect();
    assert!(["near", "there", "tls"].iter().all(|name| names.contains(name)), "{left}");
    assert!(!["stranger", "nowhere"].iter().any(|name| names.contains(name)), "{left}");
    mvm(&["rm", "there"]).ok();
    mvm(&["use", "there"]).refused(2, "no builder is named there; `mvm ls` shows which there are");
    mvm(&["up", "tls"]).refused(2, "tls is a builder of `mvm create`, and no instance");
}
