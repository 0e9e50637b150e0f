//! What tests of `mvm build` stand on.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{Base, Instance, Outcome, Registry, Running, context, docker, eventually, run, start};

/// The shared instance, and a base image in a registry.
#[derive(Debug)]
pub struct Workbench {
    pub instance: &'static Instance,
    pub registry: Registry,
    pub base: Base,
}

impl Workbench {
    /// The one that the tests of a program share.
    pub fn open() -> &'static Self {
        static SHARED: OnceLock<Workbench> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (instance, registry) = (Instance::shared(), Registry::open());
            let base = Base::push(instance, &registry);
            Self { instance, registry, base }
        })
    }

    /// A context whose Dockerfile begins with the base image.
    pub fn context(&self, dockerfile: &str, files: &[(&str, &str)]) -> TempDir {
        let dockerfile = self.dockerfile(dockerfile);
        context(&[&[("Dockerfile", dockerfile.as_str())], files].concat())
    }

    /// A Dockerfile that begins with the base image.
    pub fn dockerfile(&self, rest: &str) -> String {
        format!("FROM {} AS base\n{rest}", self.base.image)
    }

    pub fn build(&self, arguments: &[&str], directory: &TempDir) -> Outcome {
        run(&mut self.command(arguments, directory.path()))
    }

    pub fn command(&self, arguments: &[&str], directory: &Path) -> Command {
        let mut command = self.instance.command();
        command.arg("build").args(arguments).arg(directory);
        command
    }

    /// Starts a build, and returns when contents of its context are on their way, or it has ended.
    #[track_caller]
    pub fn sending_build(&self, directory: &TempDir) -> Running {
        let mut build = start(&mut self.command(&[], directory.path()));
        let counts = format!("/proc/{}/io", build.pid());
        eventually("some of the context is sent", 300, || {
            if !build.is_running() {
                return Ok(());
            }
            let counts = std::fs::read_to_string(&counts).map_err(|error| error.to_string())?;
            let written = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
            let written = written.and_then(|count| count.parse::<u64>().ok());
            if written > Some(10_000_000) { Ok(()) } else { Err(counts) }
        });
        build
    }

    /// What a command prints in a container of the image.
    pub fn run(&self, image: &str, script: &str) -> String {
        self.instance.mvm(&["run", "--rm", image, "sh", "-c", script]).ok()
    }

    /// Takes everything from the builder that it could use again.
    pub fn forget(&self) {
        run(docker(&self.instance.docker_socket()).args(["builder", "prune", "--all", "--force"])).ok();
    }
}
