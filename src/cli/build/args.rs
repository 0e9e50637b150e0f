//! The arguments of `mvm build`, and the build that they mean.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::{Failure, proxies, repository};
use crate::builder::{
    Annotation, Attestation, Attested, ByteSize, Entitlement, Host, Network, Steps, Ulimit,
};
use crate::builder::{
    Build, Cache, Call, DockerfileAt, LONGEST_DOCKERFILE, NamedContext, NoCache, Output, Policy,
};
use crate::builder::{Secret, Source, Ssh};
use crate::chain::Chain;
use crate::cli::download;
use crate::cli::nodes::BuilderArg;
use crate::cli::progress::Style;
use crate::printable::printable;
use crate::registry::credentials::Credentials;
use crate::registry::{ImageRef, Platform};

/// The platforms to build for where none is given, as Docker's clients have it.
const DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";
/// Names a file that says what a build may be made from, as for buildx.
const SOURCE_POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// Build an image from a Dockerfile, for one platform or several
///
/// The image goes into the builder's own store, where `mvm run` finds it; with --push also to its registries.
/// BUILDKIT_HOST may point at another builder (unix:///PATH, tcp://HOST:PORT); what it keeps of an image without --push is its own
/// matter. A builder of several nodes (`mvm create`) builds each platform where it runs natively, else where it is emulated.
/// No attestation is added unless --provenance, --sbom or --attest asks for one, so an index lists the platforms and nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The build context, which holds what the Dockerfile copies: a directory, the address of a git repository or of an archive,
    /// or - for an archive (or a Dockerfile alone) on standard input
    #[arg(value_name = "CONTEXT")]
    context: PathBuf,
    /// The Dockerfile, its address on the web, or - for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A further context, that `FROM` and `--from` of the Dockerfile may name: a directory, an address,
    /// docker-image://IMAGE, or oci-layout://DIRECTORY[:TAG][@DIGEST]
    #[arg(long = "build-context", value_name = "NAME=CONTEXT")]
    contexts: Vec<NamedContext>,
    #[command(flatten)]
    pub(super) builder: BuilderArg,
    /// Name of the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<ImageRef>,
    /// Build for these platforms, as in linux/amd64,linux/arm/v7 [default: the machine's own]
    #[arg(long = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Set an argument of the Dockerfile; without a value, the one of this environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]", allow_hyphen_values = true)]
    build_args: Vec<String>,
    /// Add a label to the image
    #[arg(long = "label", value_name = "KEY=VALUE", allow_hyphen_values = true)]
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
    /// Read what others have built from here: an image, or type=registry, local or gha with what they need
    #[arg(long, value_name = "IMAGE | type=TYPE[,KEY=VALUE...]", value_parser = Cache::from)]
    cache_from: Vec<Cache>,
    /// Leave what was built here: an image, or type=registry, local, inline or gha with what they need
    #[arg(long, value_name = "IMAGE | type=TYPE[,KEY=VALUE...]", value_parser = Cache::to)]
    cache_to: Vec<Cache>,
    #[command(flatten)]
    steps: StepArgs,
    /// Ask the registries for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the image to the registries of its names
    #[arg(long)]
    push: bool,
    /// Put the image into the builder's own store, beside other outputs
    #[arg(long)]
    load: bool,
    /// What becomes of the result: a directory for the last stage's files, - for a tar of them, or
    /// type=image|registry|docker|oci|local|tar|cacheonly with what they need [default: type=image]
    #[arg(short, long = "output", value_name = "DIRECTORY | type=TYPE[,KEY=VALUE...]")]
    outputs: Vec<Output>,
    /// Attach how the image was built: true, false, or how much of it (mode=min, mode=max)
    #[arg(long, value_name = "HOW", value_parser = |text: &str| Attested::Provenance.with(text))]
    provenance: Option<Attestation>,
    /// Attach a list of what the image contains: true, false, or what makes it (generator=IMAGE)
    #[arg(long, value_name = "HOW", value_parser = |text: &str| Attested::Sbom.with(text))]
    sbom: Option<Attestation>,
    /// Attach what is said of the image: type=provenance or type=sbom, and how
    #[arg(long = "attest", value_name = "type=KIND[,KEY=VALUE...]")]
    attestations: Vec<Attestation>,
    /// Build nothing, but say what is not as it should be with the Dockerfile (check), which arguments (outline) or which stages
    /// (targets) it has
    #[arg(long, value_name = "METHOD[,format=json]", value_parser = Method::parse)]
    call: Option<Method>,
    /// The same as --call check
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// How to show progress, on stderr: `tty` draws, `plain` prints lines, `rawjson` the builder's own reports, `quiet` nothing but
    /// the image's id; `auto` is `tty` on a terminal
    #[arg(long, value_enum, value_name = "STYLE", env = "BUILDKIT_PROGRESS", default_value = "auto")]
    pub(super) progress: Style,
    /// Print nothing but the image's id
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write when each step ran, and where, to this file: a page for FILE.html, data for FILE.json
    #[arg(long, value_name = "FILE", value_parser = TimelineFile::parse)]
    pub(super) timeline: Option<TimelineFile>,
    /// Write what the builder says about the image to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    #[command(flatten)]
    former: FormerArgs,
}

/// What builders before BuildKit did when they were told to, and BuildKit does not do at all: scripts still say it.
#[derive(Debug, clap::Args)]
struct FormerArgs {
    /// Remove containers of steps, of which there are none
    #[arg(long, hide = true)]
    rm: bool,
    /// The same, whatever happens
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Compress the context, of which only what changed travels
    #[arg(long, hide = true)]
    compress: bool,
}

/// What is called; `build` is nothing but what is done anyway.
#[derive(Debug, Clone)]
struct Method(Option<Call>);

impl Method {
    fn parse(text: &str) -> Result<Self, String> {
        Call::parse(text).map(Self)
    }
}

/// Where a timeline goes, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimelineFile {
    pub(super) path: PathBuf,
    pub(super) is_page: bool,
}

impl TimelineFile {
    fn parse(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let is_page = match path.extension().and_then(|end| end.to_str()) {
            Some("html" | "htm") => true,
            Some("json") => false,
            _ => return Err(format!("{text:?} should end in .html for a page, or in .json for data")),
        };
        Ok(Self { path, is_page })
    }
}

/// How the steps run.
#[derive(Debug, clap::Args)]
struct StepArgs {
    /// The network of the steps: default, none (nothing but themselves) or host (that of the builder's machine)
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: Network,
    /// Let steps that ask for it do what a builder may refuse: network.host, security.insecure, device[=NAME]
    #[arg(long = "allow", value_name = "WHAT", value_delimiter = ',')]
    allowed: Vec<Entitlement>,
    /// A line more in the steps' /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_delimiter = ',')]
    hosts: Vec<Host>,
    /// How large the steps' /dev/shm is, as in 64m
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<ByteSize>,
    /// A limit of the steps' processes, as in nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<Ulimit>,
    /// The control group that the steps' own lie in
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// What a step may read and no image keeps; without src or env, the variable or the file called ID
    #[arg(long = "secret", value_name = "id=ID[,src=FILE | ,env=VARIABLE]")]
    secrets: Vec<Secret>,
    /// An ssh agent that a step may ask for signatures: the user's own, one at a socket, or one that gets these keys
    #[arg(long = "ssh", value_name = "default | ID[=SOCKET | =KEY[,KEY...]]")]
    agents: Vec<Ssh>,
}

impl StepArgs {
    fn steps(&self) -> Steps {
        Steps {
            network: self.network,
            allowed: self.allowed.clone(),
            hosts: self.hosts.clone(),
            shm_size: self.shm_size,
            ulimits: self.ulimits.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
        }
    }
}

/// An argument that clap lets through and that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    #[error("--{flag} {value:?} has no key; write KEY=VALUE")]
    NoKey { flag: &'static str, value: String },
    #[error("what is pushed needs a name; give one with -t")]
    NothingToPush,
    #[error("{0} is to be pushed by its digest, which gets no tag; write {without}", without = .0.repository())]
    Tagged(Box<ImageRef>),
    #[error("standard output is a terminal, which an archive would spoil; write dest=FILE, or send it on")]
    Terminal,
    #[error("an archive of type=docker has one platform; write type=oci for several")]
    DockerArchive,
    #[error("standard output can take one output only")]
    StdoutTwice,
    #[error("--iidfile is for the id of an image, and no output here is one")]
    NoImage,
    #[error("DOCKER_DEFAULT_PLATFORM is {value:?}: {source}")]
    DefaultPlatform { value: String, source: crate::registry::InvalidPlatform },
    #[error("-t {0} has a digest, which only the build can tell; give a tag")]
    Digest(Box<ImageRef>),
}

impl Args {
    /// The Dockerfile, where it is on the web.
    pub(super) async fn downloaded(&self) -> Result<Option<Vec<u8>>, Failure> {
        let address = self.file.as_deref().and_then(Path::to_str).filter(|file| download::is_address(file));
        let Some(address) = address else { return Ok(None) };
        let text = download::get(address, "Dockerfile", LONGEST_DOCKERFILE).await;
        Ok(Some(text?))
    }

    /// The build that is meant, with what it names looked at; its Dockerfile may have been downloaded.
    pub(super) fn build(&self, downloaded: Option<&[u8]>) -> Result<Build, Failure> {
        let dockerfile = match (downloaded, &self.file) {
            (Some(text), _) => DockerfileAt::Text(text),
            (None, Some(path)) => DockerfileAt::Path(path),
            (None, None) => DockerfileAt::Usual,
        };
        let policy = std::env::var_os(SOURCE_POLICY).filter(|path| !path.is_empty());
        let policy = policy.map(|path| Policy::read(Path::new(&path))).transpose().map_err(Failure::usage)?;
        let source = Source::find(&self.context, dockerfile, self.contexts.clone(), std::io::stdin());
        let arguments = self.arguments()?;
        let build = Build {
            source: source.map_err(Failure::usage)?,
            names: self.tags.clone(),
            platforms: self.platforms().map_err(Failure::usage)?,
            labels: labels(&self.labels).map_err(Failure::usage)?,
            repository: BTreeMap::new(),
            annotations: self.annotations.clone(),
            target: self.target.clone(),
            call: if self.check {
                Some(Call::check())
            } else {
                self.call.clone().and_then(|method| method.0)
            },
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
            outputs: self.outputs(),
            policy,
            secrets: self.steps.secrets.clone(),
            agents: self.steps.agents.clone(),
            cache_from: self.cache_from.clone(),
            cache_to: self.cache_to.iter().cloned().chain(Cache::of_arguments(&arguments)).collect(),
            arguments,
            is_share: false,
        };
        self.check(&build, std::io::stdout().is_terminal()).map_err(Failure::usage)?;
        Ok(build)
    }

    /// Adds what is to be said of the repository that the context lies in; labels that were given stay.
    pub(super) async fn add_repository(&self, build: &mut Build) {
        let wanted = repository::Wanted::of(|key| std::env::var(key).ok());
        let (places, dockerfile) = (build.source.directories(), build.source.dockerfile_path());
        match wanted.find(&places, dockerfile.as_deref()).await {
            Ok(found) => {
                build.repository = found.provenance;
                for (key, value) in found.labels {
                    build.labels.entry(key).or_insert(value);
                }
            }
            // Who wants neither is not told what is missing there.
            Err(error) if self.may_speak() && (wanted.labels || !build.attestations.is_empty()) => {
                let why = printable(&Chain(&error).to_string());
                eprintln!("nothing is said of the context's repository: {why}");
            }
            Err(_) => {}
        }
    }

    /// Those that were given, and the proxies of the user's Docker configuration.
    fn arguments(&self) -> Result<BTreeMap<String, String>, Failure> {
        let credentials = Credentials::from_env();
        let mut all = proxies::arguments(credentials.configuration()).map_err(Failure::usage)?;
        all.extend(arguments(&self.build_args, |key| std::env::var(key).ok()).map_err(Failure::usage)?);
        Ok(all)
    }

    /// The options that only something that is built is for, where something is only asked.
    pub(super) fn idle_with(&self, call: Option<&Call>) -> Option<String> {
        call?;
        let given = [
            (self.push, "--push"),
            (self.load, "--load"),
            (!self.outputs.is_empty(), "--output"),
            (self.iidfile.is_some(), "--iidfile"),
        ];
        let idle: Vec<_> =
            given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag).collect();
        (!idle.is_empty()).then(|| idle.join(", "))
    }

    /// Standard output has an archive, and nothing else.
    pub(super) fn is_stdout_taken(&self) -> bool {
        self.outputs.iter().any(Output::is_stdout)
    }

    fn check(&self, build: &Build, is_terminal: bool) -> Result<(), UsageError> {
        if build.lacks_name() {
            return Err(UsageError::NothingToPush);
        }
        if let Some(name) = build.all_names().into_iter().find(|name| name.has_digest()) {
            return Err(UsageError::Digest(Box::new(name.clone())));
        }
        if let Some(name) = build.tagged_by_digest() {
            return Err(UsageError::Tagged(Box::new(name)));
        }
        if build.platforms.len() > 1 && self.outputs.iter().any(Output::is_docker_archive) {
            return Err(UsageError::DockerArchive);
        }
        let to_stdout = self.outputs.iter().filter(|output| output.is_stdout()).count();
        if to_stdout > 1 {
            return Err(UsageError::StdoutTwice);
        }
        if to_stdout == 1 && is_terminal {
            return Err(UsageError::Terminal);
        }
        let has_image = self.push || build.outputs.is_empty() || build.outputs.iter().any(Output::is_image);
        if self.iidfile.is_some() && !has_image {
            return Err(UsageError::NoImage);
        }
        Ok(())
    }

    /// `--load` adds what puts an image into the store, unless that is what is done anyway.
    fn outputs(&self) -> Vec<Output> {
        let mut outputs = self.outputs.clone();
        if self.load && !outputs.iter().any(Output::is_loaded) && !(outputs.is_empty() && self.push) {
            outputs.push(Output::docker());
        }
        outputs
    }

    /// Each once.
    fn platforms(&self) -> Result<Vec<Platform>, UsageError> {
        let mut given = self.platforms.clone();
        if given.is_empty()
            && let Ok(value) = std::env::var(DEFAULT_PLATFORM)
            && !value.is_empty()
        {
            let parsed: Result<_, _> = value.split(',').map(str::parse).collect();
            given = parsed.map_err(|source| UsageError::DefaultPlatform { value, source })?;
        }
        let mut platforms = Vec::new();
        for platform in given {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        Ok(platforms)
    }
}

/// `KEY=VALUE`, or `KEY` with the value of the environment, or nothing where that has none. SOURCE_DATE_EPOCH of the
/// environment is always passed on, as other clients do.
pub(super) fn arguments(
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
        // As buildx has it.
        None => Ok((label.clone(), String::new())),
    };
    given.iter().map(pair).collect()
}
