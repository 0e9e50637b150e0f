//! `mvm build`: builds a Dockerfile with the builder that is meant, on one of its nodes or on several.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use super::child::{Ends, ended_by};
use super::nodes::{self, Nodes};
use super::output::print_line;
use super::{Context, Failure};
use crate::builder::progress::{Display, Plain, Quiet, RawJson, Tty};
use crate::builder::timeline::{self, Timeline};
use crate::builder::{
    self, Build, BuildError, Call, Known, Means, Outcome, Platforms, Share, Source, Store, TogetherError,
};
use crate::builders::{self, Node, Offer};
use crate::registry::credentials::Credentials;

mod args;
mod instead;
mod metadata;
pub(super) mod ports;
mod proxies;
mod repository;
mod stages;

use super::progress::Style;
pub use args::Args;
pub(super) use instead::instead_of;
use metadata::Provenance;
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
    "the builder at {0} has no Docker daemon, which --load and type=docker need; write dest=FILE, or push it"
)]
struct NoDocker(String);

/// Nobody joins what each node keeps for itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "--iidfile is for the id of one image, and each node keeps one of its own; push it, or build for one platform"
)]
struct NotOne;

/// The Dockerfile's own frontend, or an old one.
#[derive(Debug, thiserror::Error)]
#[error("the frontend that this Dockerfile is for does not answer that")]
struct NoAnswer;

/// What a node of the builder has to do, and what it is known to run.
struct Work<'a> {
    node: &'a Node,
    platforms: Platforms,
}

/// A build that is done.
#[derive(Debug)]
struct Built {
    outcome: Outcome,
    /// Builder and node.
    place: String,
    /// What is known of it beside, for the metadata file.
    said: BTreeMap<String, Value>,
}

/// Builds with the builder that is meant.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // What cannot be meant is said before a builder is asked for anything.
    let mut build = args.build(args.downloaded().await?.as_deref())?;
    args.add_repository(&mut build).await;
    let nodes = Nodes::of(context, &args.builder)?;
    let machine = builder::node_id(&context.home.state)?;
    let works = works(&nodes, &build).await?;
    let without_docker = |work: &&Work<'_>| nodes::store(work.node) == Store::Worker;
    if let Some(work) = works.iter().find(without_docker).filter(|_| build.needs_docker()) {
        return Err(Failure::usage(NoDocker(work.node.address.to_string())));
    }
    if works.len() > 1 && args.iidfile.is_some() && !build.is_pushed() {
        return Err(Failure::usage(NotOne));
    }
    let provenance = args.metadata_file.as_ref().map(|_| Provenance::wanted()).transpose();
    let provenance = provenance.map_err(Failure::usage)?.filter(|_| build.call.is_none());
    if let Some(idle) = args.idle_with(build.call.as_ref()).filter(|_| args.may_speak()) {
        eprintln!("nothing is built, so there is nothing for {idle} to do");
    }
    if let Some(rules) = unread_policy(&build.source).filter(|_| args.may_speak()) {
        eprintln!("{rules:?} is a policy that buildx would hold the build to, and mvm does not read it");
    }
    let ports = LoopbackPorts::of(&build);
    let is_ours = works.iter().any(|work| nodes.paths(work.node).is_some());
    for port in ports.from_dockerfile.iter().filter(|_| is_ours && args.may_speak()) {
        eprintln!(
            "the Dockerfile names a registry at 127.0.0.1:{port}: the build can reach that port of this machine"
        );
    }
    let mut open = Vec::new();
    for work in &works {
        open.push(nodes.open_ports(work.node, ports.all()).await?);
    }
    let shares = works.iter().map(|work| Share {
        node: work.node.name.to_string(),
        means: Means {
            endpoint: work.node.endpoint(&context.home),
            store: nodes::store(work.node),
            node: machine.clone(),
            credentials: Credentials::from_env(),
        },
        platforms: work.platforms.asked.clone(),
    });
    let shares =
        Shares { builder: nodes.name().to_string(), names_nodes: nodes.are_several(), all: shares.collect() };
    // Each of several nodes has its own.
    let remembered = match (shares.all.as_slice(), provenance) {
        ([share], Some(provenance)) => Some((provenance, share.means.endpoint.clone())),
        _ => None,
    };
    let mut built = run_with(&args, &build, shares, &together(&build, &works)).await?;
    if let Some(call) = &build.call {
        args.write_metadata(&built)?;
        return answer(call, &built.outcome);
    }
    if let Some((provenance, endpoint)) = remembered {
        let mut ends = Ends::listen()?;
        tokio::select! {
            said = provenance.of(&built.outcome.reference, &endpoint) => built.said.extend(said),
            // The build is done, and is told without it.
            _ = ends.next() => {}
        }
    }
    args.finish(&built)
}

/// The policy beside the Dockerfile that buildx takes since v0.31, in a language of its own.
fn unread_policy(source: &Source) -> Option<PathBuf> {
    let mut path = source.dockerfile_path()?.into_os_string();
    path.push(".rego");
    Some(PathBuf::from(path)).filter(|path| path.exists())
}

/// What is known of the platforms of the whole: of each first what its own node says.
fn together(build: &Build, works: &[Work<'_>]) -> Platforms {
    let routed = works.iter().flat_map(|Work { platforms, .. }| {
        let is_asked = |known: &&Known| platforms.asked.iter().any(|asked| known.platform.covers(asked));
        platforms.known.iter().filter(is_asked)
    });
    let all = works.iter().flat_map(|work| &work.platforms.known);
    let stages = build.source.dockerfile_text().map(|text| stages::of(&String::from_utf8_lossy(&text)));
    Platforms {
        asked: build.platforms.clone(),
        known: routed.chain(all).cloned().collect(),
        stages: stages.unwrap_or_default(),
    }
}

/// Which nodes build, each with its platforms.
async fn works<'a>(nodes: &'a Nodes<'_>, build: &Build) -> Result<Vec<Work<'a>>, Failure> {
    if let [node] = nodes.all()
        && (nodes.paths(node).is_some() || build.platforms.is_empty())
    {
        let mut platforms = Platforms { asked: build.platforms.clone(), ..Platforms::default() };
        if let Some(paths) = nodes.paths(node).filter(|_| !build.platforms.is_empty()) {
            platforms.known = nodes::platforms(&paths).await?;
            // Before anything is sent.
            platforms.check().map_err(Failure::usage)?;
        }
        return Ok(vec![Work { node, platforms }]);
    }
    let workers = nodes.workers(false).await.into_iter();
    let known = workers.map(|worker| worker.map(|worker| worker.platforms));
    let offers: Vec<_> = nodes.all().iter().zip(known).map(|(node, known)| Offer { node, known }).collect();
    // A question has one answer.
    let asked = if build.call.is_some() { &[][..] } else { &build.platforms };
    let places = builders::route(&offers, asked).map_err(|error| {
        match offers.iter().any(|offer| offer.known.is_ok()) {
            true => Failure::usage(error),
            false => Failure::no_machine(error),
        }
    })?;
    let mut works = Vec::new();
    for (place, Offer { node, known }) in offers.into_iter().enumerate() {
        let own = build.platforms.iter().zip(&places).filter(|(_, chosen)| **chosen == place);
        let asked: Vec<_> = match asked {
            [] if places.contains(&place) => build.platforms.clone(),
            _ => own.map(|(platform, _)| platform.clone()).collect(),
        };
        match known {
            Ok(known) if places.contains(&place) => {
                works.push(Work { node, platforms: Platforms { asked, known, ..Platforms::default() } });
            }
            Ok(_) => {}
            Err(why) => eprintln!("node {} is left out: {why}", node.name),
        }
    }
    Ok(works)
}

/// What the nodes of a builder do.
struct Shares {
    builder: String,
    /// There are others, so it is said which one failed.
    names_nodes: bool,
    all: Vec<Share>,
}

impl Shares {
    async fn build(
        self,
        build: &Build,
        display: &mut dyn Display,
        cancel: impl Future<Output = ()>,
    ) -> Result<Outcome, BuildError> {
        let Self { names_nodes, all, .. } = self;
        match <[Share; 1]>::try_from(all) {
            Ok([share]) => {
                let result = builder::build(build, share.means, display, cancel).await;
                result.map_err(|error| if names_nodes { error.of(&share.node) } else { error })
            }
            Err(all) => {
                let progress = super::progress::to_stderr();
                builder::build_together(build.clone(), all, display, cancel, progress.as_ref()).await
            }
        }
    }
}

/// Builds, or asks, and prints everything to stderr. What came of it.
async fn run_with(
    args: &Args,
    build: &Build,
    shares: Shares,
    platforms: &Platforms,
) -> Result<Built, Failure> {
    let (mut ends, told) = (Ends::listen()?, OnceLock::new());
    let cancel = async {
        let _ = told.set(ends.next().await);
    };
    if let Some(path) = args.iidfile.as_ref().filter(|_| build.call.is_none()) {
        // One of an earlier build would be taken for this one's.
        let _ = std::fs::remove_file(path);
    }
    let first = shares.all.first().map(|share| share.node.clone()).unwrap_or_default();
    let place = format!("{}/{first}", shares.builder);
    let mut display = args.display();
    let result = shares.build(build, display.as_mut(), cancel).await;
    // That it cannot be written is not to hide how the build ended.
    let timeline = args.write_timeline(&Timeline::of(&build.title(), display.graph(), platforms));
    if let Err(BuildError::Failed(failure)) = result.as_ref().map_err(BuildError::cause) {
        eprint!("{}", display.graph().report(failure, platforms));
    }
    let outcome = result.map_err(|error| match error.cause() {
        BuildError::Endpoint(_) | BuildError::Lost(_) => Failure::no_machine(error),
        BuildError::Cancelled => told.get().map_or(Failure::Interrupted, |signal| ended_by(*signal)),
        BuildError::Attach(_) | BuildError::Together(TogetherError::Share(_)) => Failure::usage(error),
        _ => Failure::from(error),
    })?;
    timeline?;
    Ok(Built { outcome, place, said: metadata::warnings(display.graph()) })
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

    /// Whether stderr may have lines of our own: not where nothing is wanted, nor among reports that programs read.
    fn may_speak(&self) -> bool {
        !self.is_quiet() && self.progress != Style::Rawjson
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

    /// Prints the digest to stdout, or where nothing else is said the id, as buildx does, and writes what was asked for.
    fn finish(&self, built: &Built) -> Result<(), Failure> {
        let outcome = &built.outcome;
        let id = if self.is_quiet() { outcome.image_id() } else { outcome.digest() };
        if let Some(id) = id.filter(|_| !self.is_stdout_taken()) {
            print_line(id)?;
        }
        if let Some((path, id)) = self.iidfile.as_ref().zip(outcome.image_id()) {
            write(path, id.as_bytes())?;
        }
        self.write_metadata(built)
    }

    fn write_metadata(&self, Built { outcome, place, said }: &Built) -> Result<(), Failure> {
        let Some(path) = &self.metadata_file else { return Ok(()) };
        let mut metadata = outcome.metadata();
        // Builder, node and build, under the name that tools of buildx look for.
        let reference = format!("{place}/{}", outcome.reference);
        metadata.insert("buildx.build.ref".to_owned(), reference.into());
        metadata.extend(said.clone());
        Ok(write(path, serde_json::to_string_pretty(&metadata)?.as_bytes())?)
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), ResultFileError> {
    std::fs::write(path, content).map_err(|source| ResultFileError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
