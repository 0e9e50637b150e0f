//! Registries that are slow, too busy or broken, in the middle of a build.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Act, Troubled, WithTokens, Workbench, context, layout_with, run, skipped, steps};

/// Whether the builder still works at something, as its history says.
fn works(bench: &Workbench) -> bool {
    let builds = bench.instance.mvm(&["history", "ls", "--json"]).ok();
    let builds: Value = serde_json::from_str(&builds).unwrap();
    builds.as_array().unwrap().iter().any(|build| build["status"] == "running")
}

#[test]
fn trouble_that_passes_is_waited_out() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    let directory = bench.context("RUN head -c 3000000 /dev/urandom > /large\n", &[]);
    for (name, method, trouble, times) in [
        ("slow", "POST", Act::Wait(Duration::from_secs(2)), 2),
        ("slow-in-answering", "PUT", Act::Wait(Duration::from_secs(5)), 2),
        ("too-often", "POST", Act::Answer("429 Too Many Requests", String::new()), 1),
        ("broken", "PUT", Act::Answer("500 Internal Server Error", String::new()), 1),
        ("breaking-off", "PUT", Act::Break(100_000), 1),
    ] {
        registry.begin(method, trouble, times);
        let image = registry.image(&format!("{name}:1"));
        let outcome = bench.build(&["-t", &image, "--push"], &directory);
        assert_eq!(registry.end(), times, "{name}: {outcome}");
        let digest = outcome.ok();
        assert!(bench.registry.blob(digest.trim()).exists(), "{name}");
    }
}

#[test]
fn a_base_image_that_breaks_off_is_gone_on_with() {
    if skipped("build-registries") {
        return;
    }
    let bench = Workbench::open();
    let registry = Troubled::before(&bench.registry);
    // One that the builder has never had.
    let noise: Vec<u8> = (0..2_000_000_u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
    let layout = layout_with("test/far:1", &json!({}), &[("noise", &noise)]);
    bench.instance.mvm(&["image", "import", layout.path().to_str().unwrap()]).ok();
    bench.instance.mvm(&["image", "push", "test/far:1", &bench.registry.image("far:1")]).ok();
    let step = r#"["/bin/busybox", "sh", "-c", "test $(/bin/busybox wc -c < /noise) = 2000000"]"#;
    let dockerfile = format!("FROM {}\nRUN {step}\n", registry.image("far:1"));
    let directory = context(&[("Dockerfile", &dockerfile)]);
    registry.begin("GET", Act::Break(300_000), 2);
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
    for (method, trouble, said, remedy) in [
        (
            "PUT",
            Act::Answer("500 Internal Server Error", String::new()),
            "500 Internal Server Error",
            "the registry",
        ),
        (
            "POST",
            Act::Answer("429 Too Many Requests", String::new()),
            "429 Too Many Requests",
            "the registry",
        ),
        ("POST", Act::Answer("403 Forbidden", String::new()), "403 Forbidden", "`docker login`"),
        ("PUT", Act::Break(100_000), "failed to do request", "broke off"),
    ] {
        registry.begin(method, trouble, usize::MAX);
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
