//! What clients move: contexts to the builder and results from it, by `mvm build` and by Debian's `docker buildx`, in turn.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::builds::Bench;
use crate::measured::run;
use crate::report::Figure;
use crate::support;

const NOOP_RUNS: usize = 7;
const RUNS: usize = 3;
const TREE_FILES: usize = 50_000;
const SMALL_FILES: usize = 20_000;
const SMALL_BYTES: usize = 2_000;
const LARGE_MIB: usize = 1024;

/// Seconds and MiB of each client, run by run.
#[derive(Default)]
struct Both {
    ours: Vec<(f64, f64)>,
    theirs: Vec<(f64, f64)>,
}

impl Both {
    /// A figure of the time, or of what is moved in it, and one of the memory.
    fn figures(&self, name: &str, unit: &'static str, of_time: impl Fn(f64) -> f64) -> [Figure; 2] {
        let times = |all: &[(f64, f64)]| all.iter().map(|(seconds, _)| of_time(*seconds)).collect::<Vec<_>>();
        let memory = |all: &[(f64, f64)]| all.iter().map(|(_, mib)| *mib).collect::<Vec<_>>();
        let peer = "docker buildx";
        [
            Figure::new(name, unit, &times(&self.ours)).against(peer, &times(&self.theirs)),
            Figure::new(format!("{name}-memory"), "MiB", &memory(&self.ours))
                .against(peer, &memory(&self.theirs)),
        ]
    }
}

fn ours(bench: &Bench, arguments: &[&str], directory: &Path) -> Command {
    let mut command = bench.instance.command();
    command.arg("build").args(["--progress", "plain"]).args(arguments).arg(directory);
    command
}

fn theirs(bench: &Bench, arguments: &[&str], directory: &Path) -> Command {
    let mut command = bench.buildx();
    command.args(["build", "--builder", "mvm", "--provenance=false", "--progress", "plain"]);
    command.args(arguments).arg(directory);
    command
}

/// A tree of this many files of one size, 100 in a directory.
fn tree(files: usize, bytes: usize) -> TempDir {
    let directory = support::context(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let mut contents = vec![b'x'; bytes];
    for number in 0..files {
        let parent = directory.path().join(format!("d{}", number / 100));
        fs::create_dir_all(&parent).expect("a directory of the tree");
        let text = number.to_string();
        let length = text.len().min(bytes);
        contents[..length].copy_from_slice(&text.as_bytes()[..length]);
        fs::write(parent.join(format!("f{number}")), &contents).expect("a file of the tree");
    }
    directory
}

/// The same tree under another name, which the builder has never seen: all of it is sent.
fn copy(of: &TempDir) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory for a copy");
    let source = of.path().join(".");
    support::run(Command::new("cp").arg("--archive").arg("--link").arg(source).arg(directory.path())).ok();
    directory
}

pub(crate) const KEEP_NOTHING: [&str; 2] = ["--output", "type=cacheonly"];

/// An unchanged tree: every entry is told, and nothing sent.
fn unchanged(bench: &Bench) -> Both {
    let directory = tree(TREE_FILES, 10);
    let (ours, theirs) = (
        || run(ours(bench, &KEEP_NOTHING, directory.path())),
        || run(theirs(bench, &KEEP_NOTHING, directory.path())),
    );
    ours();
    theirs();
    let mut both = Both::default();
    for _ in 0..NOOP_RUNS {
        both.ours.push(ours());
        both.theirs.push(theirs());
    }
    both
}

/// Everything is sent, each time, to a builder that has nothing.
fn uploads(bench: &Bench, directory: &TempDir) -> Both {
    bench.instance.mvm(&["prune", "--all", "--force"]).ok();
    let mut both = Both::default();
    for _ in 0..RUNS {
        both.ours.push(run(ours(bench, &KEEP_NOTHING, copy(directory).path())));
        both.theirs.push(run(theirs(bench, &KEEP_NOTHING, copy(directory).path())));
    }
    both
}

/// Everything comes back.
fn outputs(bench: &Bench, directory: &TempDir) -> Both {
    let to = |target: &TempDir| format!("type=local,dest={}", target.path().display());
    run(ours(bench, &KEEP_NOTHING, directory.path()));
    let mut both = Both::default();
    for _ in 0..RUNS {
        let target = tempfile::tempdir().expect("a directory for an output");
        both.ours.push(run(ours(bench, &["--output", &to(&target)], directory.path())));
        let target = tempfile::tempdir().expect("a directory for an output");
        both.theirs.push(run(theirs(bench, &["--output", &to(&target)], directory.path())));
    }
    both
}

pub(crate) fn measure() -> Vec<Figure> {
    all(&Bench::of(support::Instance::up("bench"), ""))
}

pub(crate) fn all(bench: &Bench) -> Vec<Figure> {
    let large = support::context(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    // No zeroes: those are a special case everywhere.
    let megabyte: Vec<u8> =
        (0..1_u32 << 18).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(large.path().join("large"), megabyte.repeat(LARGE_MIB)).expect("a large file");
    let megabytes = (LARGE_MIB << 20) as f64 / 1e6;
    let small = tree(SMALL_FILES, SMALL_BYTES);
    let mut figures = Vec::new();
    figures.extend(unchanged(bench).figures(&bench.figure("noop-build-50k"), "s", |seconds| seconds));
    figures.extend(
        uploads(bench, &small)
            .figures(&bench.figure("upload-small"), "files/s", |seconds| SMALL_FILES as f64 / seconds),
    );
    figures.extend(
        uploads(bench, &large).figures(&bench.figure("upload-large"), "MB/s", |seconds| megabytes / seconds),
    );
    figures.extend(
        outputs(bench, &large).figures(&bench.figure("local-output"), "MB/s", |seconds| megabytes / seconds),
    );
    figures
}
