//! `mvm ci`: a builder for one job, which goes with it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use tokio::process::{Child, Command};

use super::child::{self, Ends};
use super::{Context, Failure, up};
use crate::builder::{ByteSize, Endpoint, Filter, KeepError, Keeper, Limits, Past};
use crate::chain::Chain;
use crate::docker;
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
    #[error("cannot make {directory:?} for the job's builder")]
    Begin {
        directory: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start {program:?}; is it there, and may it be run?")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start the process that tidies up after this one")]
    Tidier(#[source] std::io::Error),
    #[error("cannot tell what the command built")]
    History(#[from] KeepError),
    #[error("cannot tell what images the builder has")]
    Images(#[from] docker::Error),
    #[error("layers of {0} are not in the cache, so the next job builds them again")]
    NotWhole(String),
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
    let mut ends = Ends::listen()?;
    let name = Name::random("ci");
    let paths = context.home.instance(&name);
    // Marks it as a job's, which is what the tidier removes.
    let directory = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(paths.directory());
    let marked = directory.and_then(|()| std::fs::write(paths.job_mark(), ""));
    marked.map_err(|source| Error::Begin { directory: paths.directory().to_owned(), source })?;
    let mut tidier = Tidier::start(&name)?;
    let job = Job { context, name: &name, paths: &paths, args: &args };
    let result = job.run(&mut ends).await;
    // The machine is gone before the command's caller goes on.
    tidier.tidy().await;
    result
}

/// A job and its builder.
#[derive(Clone, Copy)]
struct Job<'a> {
    context: &'a Context,
    name: &'a Name,
    paths: &'a Paths,
    args: &'a Args,
}

impl Job<'_> {
    async fn run(self, ends: &mut Ends) -> Result<(), Failure> {
        let began = Instant::now();
        let mut report = Report { command: self.args.command.clone(), ..Report::default() };
        let (restored, known) = tokio::select! {
            ready = self.ready() => ready?,
            signal = ends.next() => return Err(child::ended_by(signal)),
        };
        report.restored = restored;
        report.ready_after = began.elapsed();

        report.status = self.command(ends).await?;
        // What it built is looked at whether it ended well or not: then it is wanted most.
        let result = tokio::select! {
            result = self.after(&mut report, &known) => result,
            signal = ends.next() => return Err(child::ended_by(signal)),
        };
        report.took = began.elapsed();
        let written = match &self.args.report {
            Some(directory) => {
                report.write(directory).map_err(|(path, source)| Error::Report { path, source })
            }
            None => Ok(()),
        };
        if report.status != 0 {
            // That is what the job is about; the others are said beside it.
            for error in [result.err(), written.err()].into_iter().flatten() {
                eprintln!("mvm: {}", Chain(&error));
            }
            return Err(Failure::Status(report.status));
        }
        result?;
        Ok(written?)
    }

    /// Starts the builder, with the cache if it can be used; the bytes of that, and the builds that the cache remembers.
    async fn ready(self) -> Result<(Option<u64>, Vec<String>), Failure> {
        let mut restored = None;
        if let Some(directory) = &self.args.cache {
            // A job without its cache is slow, and not wrong.
            restored =
                cache::restore(directory, self.paths, self.args.machine.disk).unwrap_or_else(|error| {
                    eprintln!(
                        "the cache in {directory:?} cannot be used, so the builder begins without: {error}"
                    );
                    None
                });
        }
        let settings = || up::Args::of(self.args.machine.clone());
        let mut ready = up::ready(self.context, self.name, &settings()).await;
        if let Err(failure) = &ready
            && restored.is_some()
            && !matches!(failure, Failure::Interrupted)
        {
            eprintln!("the builder does not start with the cache, so it begins without:");
            failure.report();
            let _ = super::down::stop_quietly(self.context, self.name).await;
            std::fs::remove_file(self.paths.data_disk())?;
            restored = None;
            ready = up::ready(self.context, self.name, &settings()).await;
        }
        ready?;
        let past = self.keeper().await?.history().await?;
        Ok((restored, past.into_iter().map(|past| past.id).collect()))
    }

    async fn keeper(self) -> Result<Keeper, KeepError> {
        Keeper::at(&Endpoint::Unix(self.paths.buildkit_socket())).await
    }

    /// Runs the command to its end; its exit status. Signals that end this process end the command first.
    async fn command(self, ends: &mut Ends) -> Result<u8, Failure> {
        let (program, arguments) =
            self.args.command.split_first().ok_or_else(|| Failure::usage("there is no command"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.paths.docker_socket().display()))
            .env("BUILDKIT_HOST", format!("unix://{}", self.paths.buildkit_socket().display()))
            .env("MVM_INSTANCE", self.name.as_str())
            // The daemon that DOCKER_HOST names.
            .env("BUILDX_BUILDER", "default")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("MVM_BUILDER");
        let start = |source| Error::Start { program: program.clone(), source };
        match child::run(command, ends).await.map_err(start)? {
            (_, Some(signal)) => Err(child::ended_by(signal)),
            (status, None) => Ok(child::exit_status(status)),
        }
    }

    /// What is left to do once the command has ended; the report has what it found, also where something failed.
    async fn after(self, report: &mut Report, known: &[String]) -> Result<(), Error> {
        let mut keeper = self.keeper().await?;
        report.builds = keeper.history().await?;
        report.builds.retain(|past| !known.contains(&past.id));
        (report.checked, report.unchecked) = self.checked(&report.builds).await?;
        if !report.unchecked.is_empty() {
            let names = report.unchecked.join(", ");
            eprintln!(
                "note: the builder has no image of {names} (any more), so nobody looked for its layers"
            );
        }
        if let Some(directory) = &self.args.cache {
            let kept = self.keep(keeper, directory).await;
            report.kept = match &kept {
                Ok(bytes) => Kept::Bytes(*bytes),
                Err(error) => Kept::Failed(Chain(error).to_string()),
            };
            kept?;
        }
        let missing = report.checked.iter().filter(|checked| !checked.is_whole);
        let missing: Vec<_> =
            missing.map(|checked| format!("{} for {}", checked.image, checked.platform)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::NotWhole(missing.join(", "))) }
    }

    /// Whether each platform of each image that the builds made is whole in the builder, and so in its cache; and the builds of
    /// which it has no image.
    async fn checked(self, builds: &[Past]) -> Result<(Vec<Checked>, Vec<String>), docker::Error> {
        let images = docker::Builder::connect(&self.paths.docker_socket()).await?.images().await?;
        let is_there = |digest: &String| images.iter().any(|image| image.digest == *digest);
        let unchecked =
            builds.iter().filter(|past| past.digest.as_ref().is_some_and(|digest| !is_there(digest)));
        let unchecked = unchecked.map(|past| past.name.clone()).collect();
        let made = |digest: &str| builds.iter().any(|past| past.digest.as_deref() == Some(digest));
        let images = images.into_iter().filter(|image| made(&image.digest));
        let of_image = images.flat_map(|image| {
            let name = image.names.first().cloned().unwrap_or(image.digest);
            let checked = move |(platform, is_whole)| Checked { image: name.clone(), platform, is_whole };
            image.platforms.into_iter().map(checked)
        });
        Ok((of_image.collect(), unchecked))
    }

    /// Takes from the cache what is too much, stops the machine, and keeps its disk.
    async fn keep(self, mut keeper: Keeper, directory: &Path) -> Result<u64, Error> {
        let size = self.args.cache_size.map_or(CACHE_SIZE, ByteSize::bytes);
        let limits = Limits { all: false, reserved: 0, max_used: size, min_free: 0 };
        // Of one that cannot be made smaller all is kept.
        let _ = keeper.prune(&[] as &[Filter], limits, |_| {}).await;
        drop(keeper);
        let failed = |source| Error::Cache { directory: directory.to_owned(), source };
        // A disk that was not put away in order is not one to begin with.
        if !matches!(super::down::stop_quietly(self.context, self.name).await, Ok(true)) {
            return Err(failed(std::io::Error::other("the machine did not power off in time")));
        }
        let (to, paths) = (directory.to_owned(), self.paths.clone());
        let saved = tokio::task::spawn_blocking(move || cache::save(&to, &paths)).await;
        saved.map_err(std::io::Error::other).and_then(|saved| saved).map_err(failed)
    }
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
