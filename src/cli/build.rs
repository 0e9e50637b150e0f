//! `mvm build`: builds a Dockerfile in the instance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::output::print_line;
use super::target::{BUILDKIT, Target};
use super::{Context, Failure};
use crate::agent::Agent;
use crate::builder::progress::{Plain, Quiet};
use crate::builder::{self, Build, BuildError, Endpoint, Known, Means, NoCache, Outcome, Source, Store};
use crate::builder::{Annotation, Attestation, Attested, Host, Network, ShmSize, Steps, Ulimit};
use crate::instance::Paths;
use crate::registry::credentials::Credentials;
use crate::registry::{ImageRef, Platform};

mod ports;

use ports::LoopbackPorts;

/// Build an image from a Dockerfile, for one platform or several
///
/// The image goes into the builder's own store, where `mvm run` finds it; with --push also to its registries.
/// BUILDKIT_HOST may point at another builder (unix:///PATH); what it keeps of an image without --push is its own matter.
/// No attestation is added unless --provenance, --sbom or --attest asks for one, so an index lists the platforms and nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The build context: the directory that holds what the Dockerfile copies
    #[arg(value_name = "DIRECTORY")]
    context: PathBuf,
    /// The Dockerfile [default: DIRECTORY/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<ImageRef>,
    /// Build for these platforms, as in linux/amd64,linux/arm/v7 [default: the machine's own]
    #[arg(long = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Set an argument of the Dockerfile; without a value, the one of this environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    build_args: Vec<String>,
    /// Add a label to the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Annotate the image's manifests, or what KIND says: index, manifest, index-descriptor, manifest-descriptor
    #[arg(long = "annotation", value_name = "[KIND[PLATFORM],...:]KEY=VALUE")]
    annotations: Vec<Annotation>,
    /// Stop at this stage of the Dockerfile
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Use nothing that was built before
    #[arg(long)]
    no_cache: bool,
    /// Use nothing of these stages that was built before
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "no_cache")]
    no_cache_filter: Vec<String>,
    #[command(flatten)]
    steps: StepArgs,
    /// Ask the registries for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the image to the registries of its names
    #[arg(long)]
    push: bool,
    /// Attach how the image was built; with a value, how much of it (mode=min, mode=max), or false for not
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "true", require_equals = true,
          value_parser = |text: &str| Attested::Provenance.with(text))]
    provenance: Option<Attestation>,
    /// Attach a list of what the image contains; with a value, what makes it (generator=IMAGE), or false for not
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "true", require_equals = true,
          value_parser = |text: &str| Attested::Sbom.with(text))]
    sbom: Option<Attestation>,
    /// Attach what is said of the image: type=provenance or type=sbom, and how
    #[arg(long = "attest", value_name = "type=KIND[,KEY=VALUE...]")]
    attestations: Vec<Attestation>,
    /// How to show progress, on stderr; `quiet` prints nothing but the digest
    #[arg(long, value_enum, value_name = "STYLE", default_value = "auto")]
    progress: Style,
    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,
    /// Write the image's digest to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what the builder says about the image to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

/// How the steps run.
#[derive(Debug, clap::Args)]
struct StepArgs {
    /// The network of the steps: default, none (nothing but themselves) or host (that of the builder's machine)
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: Network,
    /// A line more in the steps' /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<Host>,
    /// How large the steps' /dev/shm is, as in 64m
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<ShmSize>,
    /// A limit of the steps' processes, as in nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<Ulimit>,
    /// The control group that the steps' own lie in
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
}

impl StepArgs {
    fn steps(&self) -> Steps {
        Steps {
            network: self.network,
            hosts: self.hosts.clone(),
            shm_size: self.shm_size,
            ulimits: self.ulimits.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    Auto,
    Plain,
    Quiet,
}

/// An argument that clap lets through and that cannot be meant.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("--{flag} {value:?} has no key; write KEY=VALUE")]
    NoKey { flag: &'static str, value: String },
    #[error("--label {0:?} has no value; write KEY=VALUE")]
    NoValue(String),
    #[error("--push needs a name to push to; give one with -t")]
    NothingToPush,
    #[error("-t {0} has a digest, which only the build can tell; give a tag")]
    Digest(Box<ImageRef>),
}

/// A file for the build's results could not be written, although the build went well.
#[derive(Debug, thiserror::Error)]
#[error("the image is built, but {path:?} cannot be written")]
struct ResultFileError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What the guest's self-test found; waits for it right after a boot, and while it is done again because a registration
/// has changed.
async fn known_platforms(paths: &Paths) -> Result<Vec<Known>, Failure> {
    let found = async { Agent::at(&paths.agent_socket()).await?.platforms(false).await };
    let found = found.await.map_err(|error| match error {
        error if error.is_no_machine() => Failure::no_machine(error),
        error => error.into(),
    })?;
    let known = |found: protocol::agent::Platform| {
        let reason = if found.reason.is_empty() { "its self-test failed".to_owned() } else { found.reason };
        // A platform of a spelling that we do not know is none that can be asked for.
        Some(Known { platform: found.platform.parse().ok()?, broken: (!found.works).then_some(reason) })
    };
    Ok(found.into_iter().filter_map(known).collect())
}

/// Builds with the builder that is meant.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // What cannot be meant is said before anybody is asked for anything.
    let build = args.build()?;
    let target = Target::of(context, &BUILDKIT).map_err(Failure::usage)?;
    let node = builder::node_id(&context.home.state)?;
    let store = match &target {
        Target::Instance(paths) => {
            if !build.platforms.is_empty() {
                refuse_unknown(&build.platforms, &known_platforms(paths).await?)?;
            }
            Store::Docker
        }
        Target::Other(_) => Store::Worker,
    };
    let ports = LoopbackPorts::of(&args);
    for port in ports.from_dockerfile.iter().filter(|_| !args.is_quiet()) {
        eprintln!(
            "the Dockerfile names a registry at 127.0.0.1:{port}: the build can reach that port of this machine"
        );
    }
    let _ports = target.open_ports(ports.all()).await?;
    let endpoint = Endpoint::unix(target.socket(&BUILDKIT));
    run_with(&args, &build, Means { endpoint, store, node, credentials: Credentials::from_env() }).await
}

/// Refuses a platform that does not run before anything is sent.
fn refuse_unknown(platforms: &[Platform], known: &[Known]) -> Result<(), Failure> {
    platforms.iter().try_for_each(|platform| builder::check(platform, known)).map_err(Failure::usage)
}

/// Builds, prints the digest to stdout, and everything else to stderr.
async fn run_with(args: &Args, build: &Build, means: Means) -> Result<(), Failure> {
    let cancel = async {
        // Without a handler Ctrl-C would end the process: that is an end too.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let result = if args.is_quiet() {
        let mut progress = Quiet::default();
        let result = builder::build(build, means, &mut progress, cancel).await;
        report(&result, |failure| progress.report(failure));
        result
    } else {
        let mut progress = Plain::new(std::io::stderr());
        let result = builder::build(build, means, &mut progress, cancel).await;
        report(&result, |failure| progress.report(failure));
        result
    };
    let outcome = result.map_err(|error| match error {
        BuildError::Endpoint(_) | BuildError::Lost(_) => Failure::no_machine(error),
        BuildError::Cancelled => Failure::Interrupted,
        BuildError::Failed(_) => Failure::from(error),
    })?;
    args.finish(&outcome)
}

fn report(result: &Result<Outcome, BuildError>, text: impl Fn(&builder::Failure) -> String) {
    if let Err(BuildError::Failed(failure)) = result {
        eprint!("{}", text(failure));
    }
}

impl Args {
    fn is_quiet(&self) -> bool {
        self.quiet || self.progress == Style::Quiet
    }

    fn build(&self) -> Result<Build, Failure> {
        let usage = |error: UsageError| Failure::usage(error);
        let source = Source::find(&self.context, self.file.as_deref()).map_err(Failure::usage)?;
        if self.push && self.tags.is_empty() {
            return Err(usage(UsageError::NothingToPush));
        }
        if let Some(name) = self.tags.iter().find(|name| name.has_digest()) {
            return Err(usage(UsageError::Digest(Box::new(name.clone()))));
        }
        let mut platforms = self.platforms.clone();
        let mut seen = Vec::new();
        platforms.retain(|platform| {
            !seen.contains(platform) && {
                seen.push(platform.clone());
                true
            }
        });
        Ok(Build {
            source,
            names: self.tags.clone(),
            platforms,
            arguments: arguments(&self.build_args, |key| std::env::var(key).ok()).map_err(usage)?,
            labels: labels(&self.labels).map_err(usage)?,
            annotations: self.annotations.clone(),
            target: self.target.clone(),
            no_cache: match (self.no_cache, self.no_cache_filter.as_slice()) {
                (true, _) => NoCache::All,
                (false, []) => NoCache::Nothing,
                (false, stages) => NoCache::Stages(stages.to_vec()),
            },
            steps: self.steps.steps(),
            pull: self.pull,
            push: self.push,
            attestations: self
                .attestations
                .iter()
                .chain(&self.provenance)
                .chain(&self.sbom)
                .cloned()
                .collect(),
        })
    }

    fn finish(&self, outcome: &Outcome) -> Result<(), Failure> {
        if let Some(digest) = outcome.digest() {
            print_line(digest)?;
            if let Some(path) = &self.iidfile {
                write(path, digest.as_bytes())?;
            }
        }
        if let Some(path) = &self.metadata_file {
            let sorted: BTreeMap<_, _> = outcome.response.iter().collect();
            write(path, serde_json::to_string_pretty(&sorted)?.as_bytes())?;
        }
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), ResultFileError> {
    std::fs::write(path, content).map_err(|source| ResultFileError { path: path.to_owned(), source })
}

/// `KEY=VALUE`, or `KEY` with the value of the environment, or nothing where that has none. SOURCE_DATE_EPOCH of the
/// environment is always passed on, as other clients do.
fn arguments(
    given: &[String],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, UsageError> {
    let mut arguments = BTreeMap::new();
    let epoch = "SOURCE_DATE_EPOCH".to_owned();
    for argument in std::iter::once(&epoch).chain(given) {
        let (key, value) = match argument.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (argument.as_str(), environment(argument)),
        };
        if key.is_empty() {
            return Err(UsageError::NoKey { flag: "build-arg", value: argument.clone() });
        }
        if let Some(value) = value {
            arguments.insert(key.to_owned(), value);
        }
    }
    Ok(arguments)
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let pair = |label: &String| match label.split_once('=') {
        Some(("", _)) => Err(UsageError::NoKey { flag: "label", value: label.clone() }),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(UsageError::NoValue(label.clone())),
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
