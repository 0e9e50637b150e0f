//! `mvm build`: builds a Dockerfile in the instance.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::output::print_line;
use super::target::{BUILDKIT, Target};
use super::{Context, Failure};
use crate::agent::Agent;
use crate::builder::progress::{Display, Plain, Quiet, RawJson, Tty};
use crate::builder::timeline::{self, Timeline};
use crate::builder::{self, Build, BuildError, Call, Endpoint, Known, Means, Outcome, Platforms, Store};
use crate::instance::Paths;
use crate::registry::Platform;
use crate::registry::credentials::Credentials;
use crate::supervisor;

mod args;
mod ports;
mod proxies;

pub use args::Args;
use args::Style;
use ports::LoopbackPorts;

/// A file about the build could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the build is over, but {path:?} cannot be written")]
struct ResultFileError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// An output that only our own builders have.
#[derive(Debug, thiserror::Error)]
#[error(
    "BUILDKIT_HOST points at a builder without a Docker daemon, which --load and type=docker need; write dest=FILE, or push it"
)]
struct NoDocker;

/// The Dockerfile's own frontend, or an old one.
#[derive(Debug, thiserror::Error)]
#[error("the frontend that this Dockerfile is for does not answer that")]
struct NoAnswer;

/// What the guest's self-test found; waits for it right after a boot, and while it is done again because a registration
/// has changed.
async fn platforms(paths: &Paths, asked: Vec<Platform>) -> Result<Platforms, Failure> {
    if asked.is_empty() {
        return Ok(Platforms::default());
    }
    let found = async { Agent::at(&paths.agent_socket()).await?.platforms(false).await };
    let found = found.await.map_err(|error| match error {
        error if error.is_no_machine() => Failure::no_machine(error),
        error => error.into(),
    })?;
    let known = |found: supervisor::protocol::Platform| {
        let reason = found.reason.unwrap_or_else(|| "its self-test failed".to_owned());
        // A platform of a spelling that we do not know is none that can be asked for.
        let platform = found.platform.parse().ok()?;
        Some(Known { platform, broken: (!found.works).then_some(reason), emulator: found.emulator })
    };
    let known = found.into_iter().map(Into::into).filter_map(known).collect();
    Ok(Platforms { asked, known })
}

/// Builds with the builder that is meant.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // What cannot be meant is said before anybody is asked for anything.
    let build = args.build()?;
    let target = Target::of(context, &BUILDKIT).map_err(Failure::usage)?;
    let node = builder::node_id(&context.home.state)?;
    let (store, platforms) = match &target {
        Target::Instance(paths) => {
            let platforms = platforms(paths, build.platforms.clone()).await?;
            // Before anything is sent.
            platforms.check().map_err(Failure::usage)?;
            (Store::Docker, platforms)
        }
        Target::Other(_) if build.needs_docker() => return Err(Failure::usage(NoDocker)),
        Target::Other(_) => (Store::Worker, Platforms::default()),
    };
    let ports = LoopbackPorts::of(&build);
    for port in ports.from_dockerfile.iter().filter(|_| !args.is_quiet() && args.progress != Style::Rawjson) {
        eprintln!(
            "the Dockerfile names a registry at 127.0.0.1:{port}: the build can reach that port of this machine"
        );
    }
    let _ports = target.open_ports(ports.all()).await?;
    let endpoint = Endpoint::unix(target.socket(&BUILDKIT));
    let means = Means { endpoint, store, node, credentials: Credentials::from_env() };
    run_with(&args, &build, means, &platforms, &target.name()).await
}

/// Builds, prints the digest to stdout, and everything else to stderr.
async fn run_with(
    args: &Args,
    build: &Build,
    means: Means,
    platforms: &Platforms,
    builder: &str,
) -> Result<(), Failure> {
    let cancel = async {
        // Without a handler Ctrl-C would end the process: that is an end too.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    if let Some(path) = &args.iidfile {
        // One of an earlier build would be taken for this one's.
        let _ = std::fs::remove_file(path);
    }
    let mut display = args.display();
    let result = builder::build(build, means, display.as_mut(), cancel).await;
    // That it cannot be written is not to hide how the build ended.
    let timeline = args.write_timeline(&Timeline::of(&build.title(), display.graph(), platforms));
    if let Err(BuildError::Failed(failure)) = &result {
        eprint!("{}", display.graph().report(failure, platforms));
    }
    let outcome = result.map_err(|error| match error {
        BuildError::Endpoint(_) | BuildError::Lost(_) => Failure::no_machine(error),
        BuildError::Cancelled => Failure::Interrupted,
        BuildError::Attach(_) => Failure::usage(error),
        BuildError::Failed(_) | BuildError::Finish(_) => Failure::from(error),
    })?;
    timeline?;
    match &build.call {
        Some(call) => answer(call, &outcome),
        None => args.finish(&outcome, builder),
    }
}

/// Prints what the frontend was asked; that it found something is a failure.
fn answer(call: &Call, outcome: &Outcome) -> Result<(), Failure> {
    let answer = outcome.answer(call).ok_or(NoAnswer)?;
    print_line(answer.text.trim_end())?;
    if answer.is_bad { Err(Failure::Status(1)) } else { Ok(()) }
}

impl Args {
    fn is_quiet(&self) -> bool {
        self.quiet || self.progress == Style::Quiet
    }

    fn display(&self) -> Box<dyn Display> {
        let stderr = std::io::stderr();
        match self.progress {
            _ if self.is_quiet() => Box::new(Quiet::default()),
            Style::Rawjson => Box::new(RawJson::new(stderr)),
            Style::Tty => Box::new(Tty::new(stderr)),
            Style::Auto if stderr.is_terminal() => Box::new(Tty::new(stderr)),
            Style::Auto | Style::Plain | Style::Quiet => Box::new(Plain::new(stderr)),
        }
    }

    fn write_timeline(&self, timeline: &Timeline) -> Result<(), Failure> {
        let Some(file) = &self.timeline else { return Ok(()) };
        let text =
            if file.is_page { timeline::html(timeline) } else { serde_json::to_string_pretty(timeline)? };
        Ok(write(&file.path, text.as_bytes())?)
    }

    fn finish(&self, outcome: &Outcome, builder: &str) -> Result<(), Failure> {
        if let Some(digest) = outcome.digest().filter(|_| !self.is_stdout_taken()) {
            print_line(digest)?;
        }
        if let Some((path, id)) = self.iidfile.as_ref().zip(outcome.image_id()) {
            write(path, id.as_bytes())?;
        }
        if let Some(path) = &self.metadata_file {
            let mut metadata = outcome.metadata();
            // Builder, node and build, under the name that tools of buildx look for.
            let reference = format!("{builder}/{builder}/{}", outcome.reference);
            metadata.insert("buildx.build.ref".to_owned(), reference.into());
            write(path, serde_json::to_string_pretty(&metadata)?.as_bytes())?;
        }
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), ResultFileError> {
    std::fs::write(path, content).map_err(|source| ResultFileError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
