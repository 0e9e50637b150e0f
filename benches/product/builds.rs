//! Builds by `mvm build` and by Debian's `docker buildx`, in turn, on the same socket of the same machine.

use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::report::Figure;
use crate::support::{Base, Instance, Options, PLATFORMS, Registry, buildx, context, run};

const NOOP_RUNS: usize = 15;
const BUILD_RUNS: usize = 3;

/// A builder, and what both clients need to build with it.
pub(crate) struct Bench {
    pub(crate) instance: Instance,
    buildx_home: TempDir,
    /// What stands before the names of its figures.
    prefix: &'static str,
}

impl Bench {
    pub(crate) fn of(instance: Instance, prefix: &'static str) -> Self {
        let buildx_home = tempfile::tempdir().expect("a directory for buildx");
        let bench = Self { instance, buildx_home, prefix };
        let endpoint = format!("unix://{}", bench.instance.buildkit_socket().display());
        run(bench.buildx().args(["create", "--name", "mvm", "--driver", "remote", &endpoint])).ok();
        bench
    }

    /// What a figure is called.
    pub(crate) fn figure(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Without Docker's client in front of it, which only starts it.
    pub(crate) fn buildx(&self) -> Command {
        let mut command = buildx(&self.instance.docker_socket());
        command.env("BUILDX_CONFIG", self.buildx_home.path());
        command
    }

    /// Seconds of both clients with the same arguments, run by run.
    fn compare(&self, runs: usize, arguments: &[&str], directory: &TempDir) -> (Vec<f64>, Vec<f64>) {
        let ours = || {
            let mut command = self.instance.command();
            command.arg("build").args(arguments).arg(directory.path());
            command
        };
        let theirs = || {
            let mut command = self.buildx();
            command
                .args(["build", "--builder", "mvm", "--provenance=false"])
                .args(arguments)
                .arg(directory.path());
            command
        };
        seconds(ours());
        seconds(theirs());
        (0..runs).map(|_| (seconds(ours()), seconds(theirs()))).unzip()
    }
}

fn seconds(mut command: Command) -> f64 {
    let start = Instant::now();
    run(&mut command).ok();
    start.elapsed().as_secs_f64()
}

/// One file that has not changed, with the same output of both clients.
pub(crate) fn unchanged(bench: &Bench, output: &[&str]) -> Figure {
    let plain = context(&[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "content\n")]);
    let (ours, theirs) = bench.compare(NOOP_RUNS, output, &plain);
    Figure::new(bench.figure("noop-build"), "s", &ours).against("docker buildx", &theirs)
}

pub(crate) fn measure() -> Vec<Figure> {
    let registry = Registry::open();
    let options = Options::up(&["--host-port", &registry.port.to_string()]);
    let bench = Bench::of(Instance::up_with("bench", &options), "");
    // Both push: without an output buildx would make no image.
    let noop = unchanged(&bench, &["--tag", &registry.image("noop:latest"), "--push"]);
    let base = Base::push(&bench.instance, &registry);
    let dockerfile = format!("FROM {}\nRUN uname -m > /machine\nWORKDIR /data\nCOPY . .\n", base.image);
    let three = context(&[("Dockerfile", &dockerfile), ("file", "content\n")]);
    let platforms = PLATFORMS.map(|(platform, _)| platform).join(",");
    let image = registry.image("three:latest");
    let arguments = ["--no-cache", "--platform", &platforms, "--tag", &image, "--push"];
    let (ours, theirs) = bench.compare(BUILD_RUNS, &arguments, &three);
    let build = Figure::new("three-platform-build", "s", &ours).against("docker buildx", &theirs);
    vec![noop, build]
}
