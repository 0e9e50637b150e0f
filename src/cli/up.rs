//! `mvm up`: makes the appliance if there is none, starts the instance, and returns when its builder answers.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use images::Pins;
use vmm::control::Engine;

use super::image::Mirrors;
use super::output::print_line;
use super::{Context, Failure, appliance, progress, size, status};
use crate::builders::Builders;
use crate::instance::{Accel, Config, Lock, Name, Paths, data_disk, runtime_dir};
use crate::supervisor::protocol::{Event, Reply, Request, State, Status, Trouble};
use crate::supervisor::{Launch, client, engine, programs, requirements, spawn};

/// How long a supervisor may take to see that its machine has died.
const NEWS: Duration = Duration::from_secs(30);
/// How long its lock may outlive its socket. One that is only beginning has a lock and no socket yet, and is found out after that.
const LETTING_GO: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);
/// How long a guest that is busy may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often another `mvm up` may be faster before something else must be wrong.
const MOST_OVERTAKEN: u32 = 3;
/// How long a supervisor that is ending may take: a guest's shutdown at its slowest, and some more.
const ENDING: Duration = Duration::from_secs(240);

/// Start an instance, and wait until its builder answers
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
What an option sets is kept with the instance and holds for later starts too. Defaults of a new instance: as many
processors as the host has, at most 4; a quarter of the host's memory, at least 2 and at most 8 GiB; a data disk of
64 GiB, of which the host stores only what was written.")]
pub struct Args {
    /// The instance [default: that of --instance, or of `mvm use`]
    name: Option<Name>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    mirrors: Mirrors,
    /// A TCP port of this machine's 127.0.0.1 that the guest sees at its own (repeatable)
    #[arg(long = "host-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    host_ports: Vec<u16>,
    /// Close all ports that earlier starts opened by --host-port
    #[arg(long, conflicts_with = "host_ports")]
    no_host_ports: bool,
    /// Print the status as one JSON object when ready
    #[arg(long)]
    json: bool,
}

/// What a machine is made of.
#[derive(Debug, Default, Clone, clap::Args)]
pub(super) struct Machine {
    /// Processors, 1 to 32
    #[arg(long, value_name = "N")]
    cpus: Option<u8>,
    /// Memory, as in 4G or 4096M
    #[arg(long, value_name = "SIZE", value_parser = size::memory_mib)]
    memory: Option<u32>,
    /// Data disk, as in 64G; it can grow, not shrink
    #[arg(long, value_name = "SIZE", value_parser = size::disk_gib)]
    pub(super) disk: Option<u32>,
    /// What executes the guest
    #[arg(long, value_enum)]
    accel: Option<Accel>,
    /// The appliance to boot: its name in `mvm image ls` or in a registry (REGISTRY/NAME), an OCI image layout, or a
    /// linuxkit.yml, which is built
    #[arg(long, value_name = "NAME|DIR|YML")]
    image: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "{0} is a builder of `mvm create`, and no instance; `mvm inspect --bootstrap {0}` starts its nodes"
    )]
    Builder(Name),
    #[error("{0} runs with other settings; `mvm down {0}` first, then `mvm up {0}` with the new ones")]
    OtherSettings(Name),
    #[error("cannot make {directory:?} for the logs of an instance")]
    Logs {
        directory: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} did not start: {trouble}")]
    NotStarted { name: Name, trouble: Told },
    #[error("the supervisor of {0} ended before it was ready; `mvm logs supervisor` says more")]
    Ended(Name),
    #[error("{0} runs, but its guest does not answer; `mvm down {0}` ends it, and `mvm logs` may say why")]
    Silent(Name),
    #[error("{0} was stopped before it was ready")]
    Stopped(Name),
}

/// A [`Trouble`] for people: the cause, what was printed last, and where the rest is.
#[derive(Debug)]
struct Told(Trouble);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)?;
        if !self.0.last_lines.is_empty() {
            f.write_str("\n  its last lines:")?;
        }
        for line in &self.0.last_lines {
            write!(f, "\n    {line}")?;
        }
        write!(f, "\n  all of it: {}", self.0.log)
    }
}

impl Args {
    /// Of a machine, and nothing else.
    pub(super) fn of(machine: Machine) -> Self {
        Self { machine, ..Self::default() }
    }

    /// The configuration that these arguments make of the one before.
    fn applied_to(&self, mut config: Config) -> Config {
        config.cpus = self.machine.cpus.unwrap_or(config.cpus);
        config.memory_mib = self.machine.memory.unwrap_or(config.memory_mib);
        config.disk_gib = self.machine.disk.unwrap_or(config.disk_gib);
        config.accel = self.machine.accel.unwrap_or(config.accel);
        if let Some(image) = &self.machine.image {
            config.image = Some(appliance::whole(image));
        }
        if self.no_host_ports {
            config.host_ports.clear();
        }
        if !self.host_ports.is_empty() {
            config.host_ports.clone_from(&self.host_ports);
            config.host_ports.sort_unstable();
            config.host_ports.dedup();
        }
        config
    }
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let name = args.name.clone().unwrap_or_else(|| context.name.clone());
    let status = ready(context, &name, &args).await?;
    let usage = status::usage(&context.home.instance(&name), PATIENCE).await;
    if let Some(warning) = usage.and_then(|usage| usage.disk_warning()) {
        eprintln!("{warning}");
    }
    if args.json {
        print_line(serde_json::to_string(&status)?)
    } else {
        print_line(format_args!("{} is ready", status.name))
    }
}

/// Starts an instance that does not run, and waits until it is ready.
pub(super) async fn ready(context: &Context, name: &Name, args: &Args) -> Result<Status, Failure> {
    if Builders::at(&context.home).exists(name) {
        return Err(Failure::usage(Error::Builder(name.clone())));
    }
    let paths = context.home.instance(name);
    let config = match Config::load(&paths.config())? {
        Some(known) => known,
        None => Config::for_this_host(),
    };
    let config = args.applied_to(config);
    config.validate().map_err(Failure::usage)?;
    let deadline = Instant::now() + NEWS;
    let mut overtaken = 0;
    loop {
        match client::status(&paths).await {
            Ok(status) if status.config != config => return Err(Error::OtherSettings(name.clone()).into()),
            Ok(status) => match status.state {
                State::Ready if status::usage(&paths, PATIENCE).await.is_some() => {
                    return Ok(status);
                }
                // Its machine has died a moment ago: the supervisor will see it in the next.
                State::Ready if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                State::Ready => return Err(Error::Silent(name.clone()).into()),
                // Another `mvm up` is at it.
                State::Starting => {
                    wait_until_ready(name, &paths).await?;
                    return Ok(client::status(&paths).await?);
                }
                State::Created | State::Stopping | State::Stopped | State::Failed => {
                    eprintln!("{name} is {}; waiting for its end", status.state.as_str());
                    Lock::becomes_free(&paths, ENDING).await;
                }
            },
            // A supervisor's socket goes a moment before its lock.
            Err(error) if error.is_no_machine() => drop(Lock::becomes_free(&paths, LETTING_GO).await),
            Err(error) => return Err(error.into()),
        }
        match start(context, (name, &paths), config.clone(), &args.mirrors).await {
            Ok(()) => return Ok(client::status(&paths).await?),
            // Another `mvm up` was faster: what it starts is looked at like any other.
            Err(NotStarted::Held(_)) if overtaken < MOST_OVERTAKEN => overtaken += 1,
            Err(NotStarted::Held(error)) => return Err(error.into()),
            Err(NotStarted::Failed(failure)) => return Err(failure),
        }
    }
}

/// Why a start came to nothing.
enum NotStarted {
    /// Another supervisor holds the instance.
    Held(spawn::Error),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for NotStarted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn start(
    context: &Context,
    (name, paths): (&Name, &Paths),
    config: Config,
    mirrors: &Mirrors,
) -> Result<(), NotStarted> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let preparing = prepare(context, paths, config, mirrors);
    let launch = tokio::select! {
        launch = preparing => launch?,
        _ = &mut interrupted => return Err(Failure::Interrupted.into()),
    };
    spawn::spawn(name, paths, &launch).await.map_err(|error| match error {
        held @ spawn::Error::Held(_) => NotStarted::Held(held),
        error => error.into(),
    })?;
    tokio::select! {
        ready = wait_until_ready(name, paths) => Ok(ready?),
        _ = &mut interrupted => {
            eprintln!("stopping {name}");
            // It may have failed by itself in the same moment.
            let _ = client::down(paths).await;
            Err(Failure::Interrupted.into())
        }
    }
}

/// Everything that a supervisor needs before it can start: programs, the appliance, the instance's directory.
async fn prepare(
    context: &Context,
    paths: &Paths,
    config: Config,
    mirrors: &Mirrors,
) -> Result<Launch, Failure> {
    requirements::check()?;
    runtime_dir::prepare(paths.runtime())?;
    let directories = appliance::directories(context);
    let accel = config.accel;
    let (engine, passt) = tokio::task::spawn_blocking(move || -> Result<(Engine, Vec<String>), Failure> {
        let progress = progress::to_stderr();
        let qemu = || programs::qemu(&directories, Pins::Exact, progress.as_ref());
        let choice = engine::choose(accel, qemu)?;
        if accel == Accel::Auto {
            eprintln!("{}", choice.sentence());
        }
        Ok((choice.engine, programs::passt(&directories, Pins::Exact, progress.as_ref())?))
    })
    .await??;
    let appliance = appliance::ensure(context, config.image.as_deref(), mirrors).await?;
    std::fs::create_dir_all(paths.logs())
        .map_err(|source| Error::Logs { directory: paths.logs(), source })?;
    data_disk::can_have(paths, config.disk_gib)?;
    config.store(&paths.config())?;
    Ok(Launch {
        config,
        kernel: appliance.kernel,
        root: appliance.root,
        cmdline: appliance.cmdline,
        engine,
        passt,
    })
}

/// Prints a line for each stage that ends.
async fn wait_until_ready(name: &Name, paths: &Paths) -> Result<(), Failure> {
    match follow_start(name, paths).await {
        Err(Failure::Failed(error)) if is_gone(error.as_ref()) => {}
        followed => return followed,
    }
    // It ended before it could be asked: its last words are in its file.
    match status::of(name, paths).await? {
        Some(Status { state: State::Failed, reason: Some(reason), last_lines, log, .. }) => {
            let log = log.unwrap_or_else(|| paths.logs().display().to_string());
            let trouble = Told(Trouble { reason, last_lines, log });
            Err(Error::NotStarted { name: name.clone(), trouble }.into())
        }
        _ => Err(Error::Ended(name.clone()).into()),
    }
}

/// Whether the supervisor is gone without a word.
fn is_gone(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<client::Error>().is_some_and(client::Error::is_no_machine)
}

async fn follow_start(name: &Name, paths: &Paths) -> Result<(), Failure> {
    let mut events = client::Client::ask(paths, &Request::Events).await?;
    while let Some(reply) = events.next().await? {
        let Reply::Event(event) = reply else { continue };
        match event {
            Event::Stage { name, took_ms, .. } => eprintln!("{}", stage_line(&name, took_ms)),
            Event::Ready { at_ms } => {
                eprintln!("ready after {}", progress::seconds(Duration::from_millis(at_ms)));
                return Ok(());
            }
            Event::Failed(trouble) => {
                return Err(Error::NotStarted { name: name.clone(), trouble: Told(trouble) }.into());
            }
            Event::Stopped { .. } => return Err(Error::Stopped(name.clone()).into()),
        }
    }
    Err(client::Error::Ended.into())
}

fn stage_line(name: &str, took_ms: u64) -> String {
    format!("  {name:<28} {took_ms:>6} ms")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, Error, Told, stage_line};
    use crate::instance::Config;
    use crate::supervisor::protocol::Trouble;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_change_only_what_they_name() {
        let before = Config { host_ports: vec![1], ..Config::for_host(2, 0) };
        let args =
            Cli::parse_from(["up", "ci", "--memory", "3G", "--host-port", "5001", "--host-port", "5000"])
                .args;
        let after = args.applied_to(before.clone());
        assert_eq!(after, Config { memory_mib: 3072, host_ports: vec![5000, 5001], ..before.clone() });
        let args = Cli::parse_from(["up", "--no-host-ports"]).args;
        assert_eq!(args.applied_to(after), Config { memory_mib: 3072, host_ports: vec![], ..before });
    }

    #[test]
    fn failure_tells_cause_last_lines_and_log() {
        let trouble = Trouble {
            reason: "the guest powered itself off".into(),
            last_lines: vec!["Kernel panic".into()],
            log: "/s/default/logs".into(),
        };
        let error = Error::NotStarted { name: "default".parse().unwrap(), trouble: Told(trouble) };
        assert_eq!(
            error.to_string(),
            "default did not start: the guest powered itself off\n  its last lines:\n    Kernel panic\n  all of it: /s/default/logs"
        );
        assert_eq!(stage_line("kernel", 312), format!("  kernel{:22}    312 ms", ""));
    }
}
