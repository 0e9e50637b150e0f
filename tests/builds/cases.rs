//! Each folder of tests/cases/builds is built twice in one builder, by `mvm build` and by Debian's `docker buildx build`, with the
//! same arguments (tests/cases/README.md): the images are the same to the last bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Keys, Outcome, PLATFORMS, TOP, Workbench, docker, run, run_with_input, skipped, steps};
use serde_json::Value;
use tempfile::TempDir;

/// A case, in a directory of its own.
struct Case {
    name: String,
    directory: TempDir,
}

impl Case {
    fn all() -> Vec<Self> {
        let entries = fs::read_dir(Path::new(TOP).join("tests/cases/builds")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::of(path)).collect()
    }

    /// A copy, since some are completed here: names that no repository can hold, links, modes.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        run(Command::new("cp").arg("--recursive").arg(path.join(".")).arg(directory.path())).ok();
        let case = Self { name, directory };
        fs::create_dir_all(case.context()).unwrap();
        let make = case.directory.path().join("make");
        if make.exists() {
            run(Command::new("sh").arg("-e").arg(make).current_dir(case.context())).ok();
        }
        case
    }

    fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What `mvm build` says of a case that no client can build.
    fn refused(&self) -> Option<String> {
        fs::read_to_string(self.directory.path().join("refused.txt")).ok()
    }

    /// Builds with a client; what is said of the image, if there is one, and how it went.
    fn build(&self, mut client: Command, base: &str) -> (Option<Said>, Outcome) {
        let metadata = self.directory.path().join("metadata.json");
        let _ = fs::remove_file(&metadata);
        let mut arguments: Vec<_> =
            self.lines("arguments").iter().map(|argument| argument.replace("${BASE}", base)).collect();
        if arguments.is_empty() {
            arguments.push(".".to_owned());
        }
        client.args(["--progress", "plain", "--provenance=false", "--build-arg", &format!("BASE={base}")]);
        client.arg("--metadata-file").arg(&metadata).args(arguments);
        client.current_dir(self.context()).env("SOURCE_DATE_EPOCH", "1000000000");
        client.envs(self.lines("environment").iter().filter_map(|line| line.split_once('=')));
        let input = fs::read(self.directory.path().join("stdin"));
        let outcome = match input {
            Ok(input) => run_with_input(&mut client, &input),
            Err(_) => run(&mut client),
        };
        let said = fs::read(&metadata).unwrap_or_else(|_| b"null".to_vec());
        let said: BTreeMap<String, Value> = serde_json::from_slice(&said).unwrap_or_default();
        (Said::of(&said), outcome)
    }

    /// Builds with both clients; what is not as it should be.
    fn difference(&self, bench: &Workbench, keys: &Keys, home: &Path) -> Option<String> {
        let mut buildx = docker(&bench.instance.docker_socket());
        buildx.env("BUILDX_CONFIG", home).args(["buildx", "build"]);
        let mut mvm = bench.instance.command();
        mvm.arg("build");
        for client in [&mut buildx, &mut mvm] {
            client.env("SSH_AUTH_SOCK", keys.socket()).env_remove("BUILDKIT_PROGRESS");
        }
        let (theirs, their_outcome) = self.build(buildx, &bench.base.image);
        let (ours, outcome) = self.build(mvm, &bench.base.image);
        let name = &self.name;
        if let Some(refused) = self.refused() {
            let is_refused = outcome.status == 1 && outcome.stderr.contains(refused.trim());
            return (their_outcome.status == 0 || !is_refused)
                .then(|| format!("{name} is not refused: {their_outcome}\n{outcome}"));
        }
        if let Some(failed) = [&their_outcome, &outcome].into_iter().find(|one| one.status != 0) {
            return Some(format!("{name}: {failed}"));
        }
        // What they sent is what we send, so nothing is built again.
        let built: Vec<_> = steps(&outcome.stderr).into_iter().filter(|(_, cached)| !cached).collect();
        (ours.is_none() || ours != theirs || !built.is_empty())
            .then(|| format!("{name}: {theirs:?} of buildx, {ours:?} of mvm; built again: {built:?}"))
    }
}

/// What a client writes of what it built that does not depend on when that was.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    digest: String,
    /// Of each platform.
    provenance: BTreeMap<String, String>,
}

impl Said {
    fn of(metadata: &BTreeMap<String, Value>) -> Option<Self> {
        let is_provenance = |name: &str| name.starts_with("buildx.build.provenance");
        let provenance = metadata.iter().filter(|(name, _)| is_provenance(name));
        Some(Self {
            digest: metadata.get("containerimage.digest")?.as_str()?.to_owned(),
            provenance: provenance.map(|(name, value)| (name.clone(), comparable(value))).collect(),
        })
    }
}

/// Without the session's name, which is in the address of a context that comes through it, and without what buildx says although it
/// is so anyway.
fn comparable(provenance: &Value) -> String {
    const ADDRESS: &str = "http://buildkit-session/";
    let text = provenance.to_string().replace(r#","dockerfilekey":"dockerfile""#, "");
    let mut parts = text.split(ADDRESS);
    let mut same = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        same.push_str(ADDRESS);
        same.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
    }
    same
}

/// Cases that are built at the same time.
const AT_ONCE: usize = 4;

/// One of each subject: these are built where time is short.
const FEW: [&str; 15] = [
    "005-double-stars-of-an-ignore-file",
    "009-links-of-every-kind",
    "010-names-with-odd-characters",
    "012-names-that-are-not-utf-8",
    "013-names-of-255-bytes",
    "014-a-deep-tree",
    "016-hard-links",
    "022-heredocs",
    "029-a-cache-mount",
    "031-a-secret-of-a-file",
    "033-an-ssh-agent",
    "034-a-named-context",
    "039-an-archive-through-standard-input",
    "050-several-platforms",
    "055-a-context-of-links-to-itself",
];

#[test]
fn mvm_and_buildx_make_the_same_images_of_a_case_of_each_subject() {
    if skipped("build-cases") {
        return;
    }
    let few: Vec<_> = Case::all().into_iter().filter(|case| FEW.contains(&case.name.as_str())).collect();
    assert_eq!(few.len(), FEW.len(), "all of them are there");
    compare(&few);
}

#[test]
#[ignore = "it takes some minutes"]
fn mvm_and_buildx_make_the_same_images_of_all_cases() {
    if skipped("build-cases") {
        return;
    }
    let cases = Case::all();
    assert!(cases.len() >= 30, "only {} are there", cases.len());
    compare(&cases);
}

#[test]
fn cases_are_numbered() {
    for (number, case) in (1..).zip(Case::all()) {
        assert!(case.name.starts_with(&format!("{number:03}-")), "{} has not the number {number}", case.name);
    }
}

fn compare(cases: &[Case]) {
    let bench = Workbench::open();
    let keys = Keys::make();
    let home = tempfile::tempdir().unwrap();
    // Builds that are the first to use an image, all at once, do not find each other's steps.
    bench
        .build(
            &["--platform", &PLATFORMS.map(|(platform, _)| platform).join(",")],
            &bench.context("RUN true\n", &[]),
        )
        .ok();
    // Most of a build is waiting.
    let (next, different) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = case.difference(bench, &keys, home.path());
                    different.lock().unwrap().extend(found);
                }
            });
        }
    });
    let different = different.into_inner().unwrap();
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), cases.len(), different.join("\n"));
}
