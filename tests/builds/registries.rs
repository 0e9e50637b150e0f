//! Registries that are slow, too busy or broken, in the middle of a build, and those that want to know who asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Act, Registry, Request, Troubled, WithTokens, Workbench, context, layout_with, run, skipped, steps,
};

/// Whether the builder still works at something, as its history says.
pub(crate) fn works(bench: &Workbench) -> bool {
    let builds = bench.instance.mvm(&["history", "ls", "--json"]).ok();
    let builds: Value = serde_json::from_str(&builds).unwrap();
    builds.as_array().unwrap().iter().any(|build| build["status"] == "running")
}

/// More than this is a layer's: no configuration and no manifest is as long.
const LONG: u64 = 1_000_000;

fn puts_a_layer(request: &Request) -> bool {
    request.method() == "PUT" && request.length() > LONG
}

#[test]
fn trouble_that_passes_is_waited_out() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    let trouble = |status| Act::Answer(status, String::new());
    let begins = |request: &Request| request.method() == "POST";
    let asks = |request: &Request| request.method() == "HEAD";
    for (name, act, times, chosen) in [
        ("slow", Act::Wait(Duration::from_secs(2)), 2, begins as fn(&Request) -> bool),
        ("slow-in-taking", Act::Wait(Duration::from_secs(5)), 1, puts_a_layer),
        ("too-busy", trouble("503 Service Unavailable"), 1, asks),
        ("too-often", trouble("429 Too Many Requests"), 1, begins),
        ("broken", trouble("500 Internal Server Error"), 1, puts_a_layer),
        ("breaking-off", Act::Break(LONG), 1, puts_a_layer),
    ] {
        // A layer that the registry has not had.
        let directory = bench.context(&format!("RUN head -c 3000000 /dev/urandom > /{name}\n"), &[]);
        registry.begin(act, times, chosen);
        let image = registry.image(&format!("{name}:1"));
        let outcome = bench.build(&["-t", &image, "--push"], &directory);
        assert_eq!(registry.end(), times, "{name}: {outcome}");
        let digest = outcome.ok();
        assert!(bench.registry.blob(digest.trim()).exists(), "{name}");
    }
}

#[test]
fn within_a_registry_nothing_travels_that_it_can_mount() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    let create = |name: &str| {
        let (image, base) = (registry.image(name), registry.image("base:latest"));
        bench.instance.mvm(&["imagetools", "create", "-t", &image, &base]).ok()
    };
    registry.begin(Act::Pass, usize::MAX, |request| request.path().contains("?mount="));
    create("mounted:1");
    // A configuration and two layers of each platform.
    assert_eq!(registry.end(), 9);
    // Where it has no content for anybody, that is enough as well.
    let unavailable = Act::Answer("503 Service Unavailable", String::new());
    registry.begin(unavailable, usize::MAX, |request| {
        matches!(request.method(), "GET" | "PUT" | "PATCH") && request.path().contains("/blobs/")
    });
    create("mounted-again:1");
    assert_eq!(registry.end(), 0);
}

/// An image that the builder has never had: its name in the registry, and its layer's digest.
fn far(bench: &Workbench) -> (&'static str, String) {
    let noise: Vec<u8> =
        (0..500_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layout = layout_with("test/far:1", &json!({}), &[("noise", &noise)]);
    bench.instance.mvm(&["image", "import", layout.path().to_str().unwrap()]).ok();
    bench.instance.mvm(&["image", "push", "test/far:1", &bench.registry.image("far:1")]).ok();
    let image: Value =
        serde_json::from_str(&bench.instance.mvm(&["image", "inspect", "test/far:1"]).ok()).unwrap();
    ("far:1", image["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned())
}

#[test]
fn a_base_image_comes_although_its_registry_breaks_off_and_not_if_it_has_trouble() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    let (name, layer) = far(bench);
    let gets = move |request: &Request| request.method() == "GET" && request.path().ends_with(&layer);
    let step = r#"["/bin/busybox", "sh", "-c", "test $(/bin/busybox wc -c < /noise) = 2000000"]"#;
    let dockerfile = format!("FROM {}\nRUN {step}\n", registry.image(name));
    let directory = context(&[("Dockerfile", &dockerfile)]);
    for (status, remedy) in
        [("429 Too Many Requests", "asked too often"), ("502 Bad Gateway", "trouble of its own")]
    {
        registry.begin(Act::Answer(status, String::new()), usize::MAX, gets.clone());
        let outcome = bench.build(&[], &directory);
        assert_ne!(registry.end(), 0, "{outcome}");
        outcome.refused(1, status);
        outcome.refused(1, remedy);
    }
    registry.begin(Act::Break(LONG), 2, gets);
    let outcome = bench.build(&[], &directory);
    assert_eq!(registry.end(), 2, "{outcome}");
    outcome.ok();
}

#[test]
fn trouble_that_stays_ends_the_build_and_says_what_it_was() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    let image = registry.image("never:1");
    let directory = bench.context("RUN head -c 3000000 /dev/urandom > /larger\n", &[]);
    let trouble = |status| Act::Answer(status, String::new());
    let puts = |request: &Request| request.method() == "PUT";
    let begins = |request: &Request| request.method() == "POST";
    for (act, chosen, said, remedy) in [
        (
            trouble("500 Internal Server Error"),
            puts as fn(&Request) -> bool,
            "500 Internal Server Error",
            "trouble of its own",
        ),
        (trouble("429 Too Many Requests"), begins, "429 Too Many Requests", "asked too often"),
        (trouble("403 Forbidden"), begins, "403 Forbidden", "`docker login`"),
        (Act::Break(LONG), puts_a_layer, "failed to do request", "broke off"),
    ] {
        registry.begin(act, usize::MAX, chosen);
        let outcome = bench.build(&["-t", &image, "--push"], &directory);
        assert_ne!(registry.end(), 0, "{outcome}");
        outcome.refused(1, said);
        outcome.refused(1, remedy);
        assert!(!works(bench), "{said}");
    }
    // What was built is kept.
    let outcome = bench.build(&["-t", &image, "--push", "--progress", "plain"], &directory);
    assert!(steps(&outcome.stderr).iter().all(|(_, cached)| *cached), "{outcome}");
    outcome.ok();
}

#[test]
fn a_registry_that_wants_a_token_gets_one_for_the_login() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = WithTokens::start();
    let image = registry.image("some/where:1");
    let directory = bench.context("RUN echo token > /token\n", &[]);
    let push = |login: &str| {
        let configuration = tempfile::tempdir().unwrap();
        let auths = json!({"auths": {(registry.address()): {"auth": login}}});
        fs::write(configuration.path().join("config.json"), auths.to_string()).unwrap();
        let mut build = bench.command(&["-t", &image, "--push"], directory.path());
        let built = run(build.env("DOCKER_CONFIG", configuration.path()));
        let mut inspect = bench.instance.command();
        inspect.args(["imagetools", "inspect", "--format", "{{.Manifest.Digest}}", &image]);
        (built, run(inspect.env("DOCKER_CONFIG", configuration.path())))
    };
    // user:wrong and user:secret
    let (built, _) = push("dXNlcjp3cm9uZw==");
    built.refused(1, "the registry wants another login than the one in Docker's configuration");
    let (built, inspected) = push("dXNlcjpzZWNyZXQ=");
    let digest = built.ok();
    assert!(registry.registry.blob(digest.trim()).exists());
    assert_eq!(inspected.ok(), digest, "mvm asks for tokens by itself, too");
}

#[test]
fn a_registry_that_wants_a_login_gets_that_of_a_credential_helper() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Registry::with_login();
    let image = registry.image("helped:1");
    let directory = bench.context("RUN echo helped > /helped\n", &[]);
    let home = tempfile::tempdir().unwrap();
    let helpers = json!({"credHelpers": {(registry.address()): "of-a-test"}});
    fs::write(home.path().join("config.json"), helpers.to_string()).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let with_helper =
        |mut command: Command| run(command.env("DOCKER_CONFIG", home.path()).env("PATH", &path));
    let push = |answer: &str| {
        let helper = home.path().join("docker-credential-of-a-test");
        // What it is asked is its argument, and for which registry on standard input.
        let script =
            format!("#!/bin/sh\nread -r server\necho \"$1 $server\" > \"${{0%/*}}/asked\"\n{answer}\n");
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        with_helper(bench.command(&["-t", &image, "--push"], directory.path()))
    };
    let refused = push("echo the keyring is locked; exit 1");
    refused.refused(1, &format!("cannot get the credential for {}", registry.address()));
    refused.refused(1, "the keyring is locked");

    let answer = r#"printf '{"ServerURL":"%s","Username":"user","Secret":"secret"}' "$server""#;
    let digest = push(answer).ok();
    assert!(registry.blob(digest.trim()).exists());
    let asked = fs::read_to_string(home.path().join("asked")).unwrap();
    assert_eq!(asked, format!("get {}\n", registry.address()));
    let mut inspect = bench.instance.command();
    inspect.args(["imagetools", "inspect", "--format", "{{.Manifest.Digest}}", &image]);
    assert_eq!(with_helper(inspect).ok(), digest, "mvm asks it by itself, too");
}
