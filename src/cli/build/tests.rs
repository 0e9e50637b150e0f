use clap::Parser;

use super::args::arguments;
use super::*;
use crate::builder::{Attested, Endpoint};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(words: &[&str]) -> Result<Args, String> {
    let words = std::iter::once(&"build").chain(words);
    Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
}

fn usage_error(words: &[&str]) -> String {
    match parse(words).unwrap().build(None) {
        Err(Failure::Usage(cause)) => cause.to_string(),
        other => panic!("not a usage error: {other:?}"),
    }
}

fn context() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("Dockerfile"), "FROM 127.0.0.1:5001/base\n").unwrap();
    directory
}

#[test]
fn platforms_come_in_lists_and_repeated_and_count_once() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let args = parse(&["--platform", "linux/amd64,linux/arm", "--platform=linux/arm/v7", path]).unwrap();
    let platforms: Vec<String> =
        args.build(None).unwrap().platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm/v7"]);
}

#[test]
fn clap_refuses_what_it_does_not_know_by_name() {
    for (words, wanted) in [
        (&["--frob", "."][..], "unexpected argument '--frob' found"),
        (&["--secret", "x", "."], "\"x\" is no secret; write id=ID"),
        (&["--ssh", "=x", "."], "\"=x\" is no ssh agent"),
        (&["-o", "type=zip", "."], "there is no output of the type \"zip\""),
        (&["--cache-to", "type=s3", "."], "no cache of the type \"s3\" here"),
        (&["--build-context", "x", "."], "\"x\" is no context"),
        (&["--platform", "linux/foo bar", "."], "\"linux/foo bar\" is not a platform: write OS/ARCHITECTURE"),
        (&["-t", "Demo", "."], "\"Demo\" is not the name of an image"),
        (&["--progress", "fancy", "."], "invalid value 'fancy'"),
        (&["--provenance=much", "."], "\"much\" is nothing that provenance is made with; write KEY=VALUE"),
        (&["--network", "bridge", "."], "a build has no network \"bridge\"; write default, none or host"),
        (&["--shm-size", "much", "."], "\"much\" is no size; write a number and b, k, m or g"),
        (&["--no-cache", "--no-cache-filter", "a", "."], "cannot be used with"),
        (&[], "<CONTEXT>"),
    ] {
        let error = parse(words).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let digest = format!("x@sha256:{}", "0".repeat(64));
    for (words, wanted) in [
        (&["--push", path][..], "what is pushed needs a name; give one with -t"),
        (&["-o", "type=registry", path], "what is pushed needs a name; give one with -t"),
        (&["-o", "type=tar", "-o", "-", path], "standard output can take one output only"),
        (
            &["--iidfile", "x", "-o", "out", path],
            "--iidfile is for the id of an image, and no output here is one",
        ),
        (&["-t", &digest, path], "has a digest, which only the build can tell; give a tag"),
        (
            &["--push", "-o", "type=image,push-by-digest=true", "-t", "a/b:1", path],
            "docker.io/a/b:1 is to be pushed by its digest, which gets no tag; write docker.io/a/b",
        ),
        (&["--label", "=x", path], "--label \"=x\" has no key; write KEY=VALUE"),
        (&["--build-arg", "=x", path], "--build-arg \"=x\" has no key; write KEY=VALUE"),
        (&["/nonexistent-context"], "cannot open the build context"),
        (
            &["-f", "/nonexistent-file", path],
            "there is no Dockerfile at \"/nonexistent-file\"; name one with -f",
        ),
    ] {
        let error = usage_error(words);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn words_may_stand_apart_and_be_short_as_with_buildx() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let words = ["--provenance", "false", "--sbom", "true", "--label", "x", "--allow", "network.host"];
    let build = parse(&[&words[..], &["--platform", "arm64", path]].concat()).unwrap().build(None).unwrap();
    assert_eq!(
        build.attestations,
        [Attested::Provenance.with("false"), Attested::Sbom.with("true")].map(Result::unwrap)
    );
    assert_eq!(build.labels, [("x".to_owned(), String::new())].into());
    assert_eq!(build.steps.allowed, ["network.host".parse().unwrap()]);
    assert_eq!(build.platforms, ["linux/arm64".parse().unwrap()]);
}

#[test]
fn lists_values_with_hyphens_and_former_options_are_taken() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let words = ["--add-host", "a:1.2.3.4,b:1.2.3.5", "--build-arg", "-x=1", "--label", "--y=2"];
    let former = ["--rm", "--force-rm", "--compress", path];
    let build = parse(&[&words[..], &former].concat()).unwrap().build(None).unwrap();
    assert_eq!(build.steps.hosts.len(), 2);
    assert_eq!((&*build.arguments["-x"], &*build.labels["--y"]), ("1", "2"));
}

#[test]
fn what_a_question_has_no_use_for_is_told() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let idle = |words: &[&str]| {
        let args = parse(&[words, &["-t", "x", path]].concat()).unwrap();
        args.idle_with(args.build(None).unwrap().call.as_ref())
    };
    assert_eq!(idle(&["--check", "--push", "-o", "out"]).as_deref(), Some("--push, --output"));
    assert_eq!(idle(&["--call", "targets"]), None);
    assert_eq!(idle(&["--call", "build", "--push"]), None);
}

#[test]
fn arguments_without_value_take_the_environment_s() {
    let environment = |key: &str| match key {
        "HOME" => Some("/me".to_owned()),
        "SOURCE_DATE_EPOCH" => Some("7".to_owned()),
        _ => None,
    };
    let given = ["A=b=c", "HOME", "UNSET", "EMPTY="].map(str::to_owned);
    let arguments = arguments(&given, environment).unwrap();
    let wanted = [("A", "b=c"), ("EMPTY", ""), ("HOME", "/me"), ("SOURCE_DATE_EPOCH", "7")];
    assert_eq!(arguments, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn ports_of_names_arguments_and_dockerfile() {
    let directory = context();
    let path = directory.path().to_str().unwrap();
    let words = ["-t", "127.0.0.1:5000/a", "-t", "ghcr.io/a", "--build-arg", "B=localhost:5002/b", path];
    let ports = LoopbackPorts::of(&parse(&words).unwrap().build(None).unwrap());
    assert_eq!((ports.asked, ports.from_dockerfile), (vec![5000, 5002], vec![5001]));
}

#[tokio::test]
async fn without_a_builder_the_exit_status_is_3() {
    let directory = context();
    let args = parse(&[directory.path().to_str().unwrap()]).unwrap();
    let endpoint = Endpoint::Unix(directory.path().join("none.sock"));
    let means =
        Means { endpoint, store: Store::Docker, node: "n".to_owned(), credentials: Credentials::from_env() };
    let share = Share { node: "x".to_owned(), means, platforms: Vec::new() };
    let shares = Shares { builder: "x".to_owned(), names_nodes: false, all: vec![share] };
    let result = run_with(&args, &args.build(None).unwrap(), shares, &Platforms::default()).await;
    assert!(
        matches!(&result, Err(Failure::NoMachine(cause)) if cause.to_string().ends_with("start it with `mvm up`")),
        "{result:?}"
    );
}

#[test]
fn a_platform_is_known_as_its_own_node_knows_it() {
    let node = |name: &str| {
        let name: crate::instance::Name = name.parse().unwrap();
        builders::Builder::of(name.clone(), builders::Address::Instance(name)).nodes.remove(0)
    };
    let known = |platform: &str, emulator: Option<&str>| Known {
        platform: platform.parse().unwrap(),
        broken: None,
        emulator: emulator.map(str::to_owned),
    };
    let (pc, arm) = (node("pc"), node("arm"));
    let of = |asked: &str, known: Vec<Known>| Platforms {
        asked: vec![asked.parse().unwrap()],
        known,
        ..Platforms::default()
    };
    let works = [
        Work {
            node: &pc,
            platforms: of(
                "linux/amd64",
                vec![known("linux/amd64", None), known("linux/arm64", Some("qemu"))],
            ),
        },
        Work { node: &arm, platforms: of("linux/arm64", vec![known("linux/arm64", None)]) },
    ];
    let directory = context();
    let build = parse(&[directory.path().to_str().unwrap()]).unwrap().build(None).unwrap();
    let first = |platform: &str| {
        let together = together(&build, &works);
        let found = together.known.into_iter().find(|known| known.platform.to_string() == platform);
        found.unwrap().emulator
    };
    assert_eq!((first("linux/arm64"), first("linux/amd64")), (None, None));
}
