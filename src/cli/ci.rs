//! `mvm ci`: a builder for one job, which goes with it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Failure, ps, up};
use crate::builder::{ByteSize, Endpoint, Filter, Keeper, Limits, Past};
use crate::instance::{Name, Paths};

mod cache;
mod report;

use report::{Checked, Kept, Report};

/// What the cache may hold where nothing is said, in bytes.
const CACHE_SIZE: u64 = 10 << 30;

/// Run a command with a builder of its own, which is gone when the command ends, however that is
///
/// DOCKER_HOST, BUILDKIT_HOST and MVM_INSTANCE of the command point at the builder, and buildx uses it. With --cache the builder
/// begins with what the last one had: layers, steps, cache mounts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: the command's own; 1 if it ended well, but a platform of what it built is not whole in the cache, or the cache
cannot be written; else as for all verbs.")]
pub struct Args {
    /// Where the builder's cache is between jobs, a directory for the cache of the CI system to keep
    #[arg(long, value_name = "DIRECTORY")]
    cache: Option<PathBuf>,
    /// What the cache may hold of steps that no image needs; the oldest go first [default: 10g]
    #[arg(long, value_name = "SIZE", requires = "cache")]
    cache_size: Option<ByteSize>,
    /// Where to write what was built, and how it went: mvm-ci.json, and mvm-ci.xml as JUnit has it
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
    #[command(flatten)]
    machine: up::Machine,
    /// The command, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot start {program:?}; is it there, and may it be run?")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start the process that tidies up after this one")]
    Tidier(#[source] std::io::Error),
    #[error("{0} of what was built is not whole in the cache; the report names it")]
    NotWhole(usize),
    #[error("cannot keep the cache in {directory:?}; the next job begins without what this one built")]
    Cache {
        directory: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write the report to {path:?}")]
    Report {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let name = Name::random("ci");
    let paths = context.home.instance(&name);
    let mut tidier = Tidier::start(&name)?;
    let result = job(context, &name, &paths, args).await;
    // The machine is gone before the command's caller goes on.
    tidier.tidy().await;
    result
}

async fn job(context: &Context, name: &Name, paths: &Paths, args: Args) -> Result<(), Failure> {
    let began = Instant::now();
    let mut report = Report::default();
    if let Some(directory) = &args.cache {
        let restored = cache::restore(directory, paths);
        match restored {
            Ok(bytes) => report.restored = bytes,
            // A job without its cache is slow, and not wrong.
            Err(error) => {
                eprintln!(
                    "the cache in {directory:?} cannot be used, so the builder begins without: {error}"
                );
            }
        }
    }
    let settings = up::Args::of(args.machine);
    up::ready(context, name, &settings).await?;
    report.ready_after = began.elapsed();

    let status = command(&args.command, name, paths).await?;
    report.command = args.command;
    report.status = status;
    // What it built is looked at whether it ended well or not: then it is wanted most.
    let mut keeper = Keeper::at(&Endpoint::Unix(paths.buildkit_socket())).await?;
    report.builds = keeper.history().await?;
    report.checked = checked(context, name, &report.builds).await?;
    let kept = match &args.cache {
        None => None,
        Some(directory) => {
            let size = args.cache_size.map_or(CACHE_SIZE, ByteSize::bytes);
            Some(keep(keeper, context, name, paths, directory, size).await)
        }
    };
    report.took = began.elapsed();
    report.kept = match &kept {
        None => Kept::Nothing,
        Some(Ok(bytes)) => Kept::Bytes(*bytes),
        Some(Err(error)) => Kept::Failed(super::failure::Chain(error).to_string()),
    };
    if let Some(directory) = &args.report {
        report.write(directory).map_err(|(path, source)| Error::Report { path, source })?;
    }
    if status != 0 {
        return Err(Failure::Status(status));
    }
    kept.transpose()?;
    match report.checked.iter().filter(|checked| !checked.is_whole).count() {
        0 => Ok(()),
        missing => Err(Error::NotWhole(missing).into()),
    }
}

/// Runs the command to its end; its exit status. Signals that end this process end the command first.
async fn command(words: &[String], name: &Name, paths: &Paths) -> Result<u8, Failure> {
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::usage("there is no command"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", paths.docker_socket().display()))
        .env("BUILDKIT_HOST", format!("unix://{}", paths.buildkit_socket().display()))
        .env("MVM_INSTANCE", name.as_str())
        // The daemon that DOCKER_HOST names.
        .env("BUILDX_BUILDER", "default")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("MVM_BUILDER");
    let start = |source| Error::Start { program: program.clone(), source };
    let mut child = command.kill_on_drop(true).spawn().map_err(start)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut is_interrupted = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            // From a terminal the command has it, too.
            _ = interrupt.recv() => is_interrupted = true,
            _ = terminate.recv() => { is_interrupted = true; pass_on(&child, rustix::process::Signal::TERM); }
            _ = hang_up.recv() => { is_interrupted = true; pass_on(&child, rustix::process::Signal::HUP); }
        }
    };
    if is_interrupted {
        return Err(Failure::Interrupted);
    }
    Ok(exit_status(status))
}

fn pass_on(child: &Child, signal: rustix::process::Signal) {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // It may have ended by now.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// As a shell tells it.
fn exit_status(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal().map(|signal| signal.saturating_add(128));
    status.code().or(by_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Whether each platform of each image that the builds made is whole in the builder, and so in its cache.
async fn checked(context: &Context, name: &Name, builds: &[Past]) -> Result<Vec<Checked>, Failure> {
    let own = Context { home: context.home.clone(), name: name.clone(), is_named: true };
    let images = ps::containers(&own).await?.images().await?;
    let made = |digest: &str| builds.iter().any(|past| past.digest.as_deref() == Some(digest));
    let images = images.into_iter().filter(|image| made(&image.digest));
    let of_image = images.flat_map(|image| {
        let name = image.names.first().cloned().unwrap_or(image.digest);
        image.platforms.into_iter().map(move |(platform, is_whole)| Checked {
            image: name.clone(),
            platform,
            is_whole,
        })
    });
    Ok(of_image.collect())
}

/// Takes from the cache what is too much, stops the machine, and keeps its disk.
async fn keep(
    mut keeper: Keeper,
    context: &Context,
    name: &Name,
    paths: &Paths,
    directory: &std::path::Path,
    size: u64,
) -> Result<u64, Error> {
    let limits = Limits { all: false, reserved: 0, max_used: size, min_free: 0 };
    // Of one that cannot be made smaller all is kept.
    let _ = keeper.prune(&[] as &[Filter], limits, |_| {}).await;
    drop(keeper);
    let stopped = super::down::stop(context, name).await;
    let failed = |source| Error::Cache { directory: directory.to_owned(), source };
    if stopped.is_err() {
        return Err(failed(std::io::Error::other("the machine does not stop")));
    }
    let (directory, paths) = (directory.to_owned(), paths.clone());
    let saved = tokio::task::spawn_blocking(move || cache::save(&directory, &paths)).await;
    saved.map_err(std::io::Error::other).and_then(|saved| saved).map_err(failed)
}

/// A process that waits for the end of this one, whatever that is, and removes the instance.
struct Tidier {
    child: Child,
}

impl Tidier {
    fn start(name: &Name) -> Result<Self, Failure> {
        let start = || -> std::io::Result<Child> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--instance", name.as_str(), "tidy"]).stdin(Stdio::piped()).stdout(Stdio::null());
            // Signals for the job's group of processes are not for it.
            command.process_group(0).spawn()
        };
        Ok(Self { child: start().map_err(Error::Tidier)? })
    }

    /// The end that it waits for; waits in turn until it is done.
    async fn tidy(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait().await;
    }
}
