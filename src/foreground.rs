//! `mvm vmm`: one machine in the foreground, from plain files; neither supervisor nor appliance is needed.
//!
//! It comes before the command line and the asynchronous runtime, so that a machine costs only itself.

mod emulated;
mod native;
mod options;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use images::{Directories, Pins};
use vmm::console;
use vmm::control::Engine;
use vmm::devices::blk::DiskError;
use vmm::engine::Outcome;
use vmm::engine::tcg;
use vmm::sandbox;

use self::options::{Asked, Options};
use crate::chain::Chain;
use crate::cli::progress;
use crate::instance::{Accel, Home, NoHome};
use crate::supervisor::{engine, programs};

/// The word that asks for it.
pub const WORD: &str = "vmm";

// How the guest ended, as exit statuses; 2 is usage, as everywhere.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const RESET: u8 = 4;
const STOPPED: u8 = 130;

/// Why there was no machine.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot open the {what} {path}")]
    Open {
        what: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "cannot reach the network process at {socket}; start one there first, as `passt --socket {socket}`"
    )]
    Network {
        socket: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Hypervisor(#[from] vmm::hypervisor::Error),
    #[error(transparent)]
    Machine(#[from] vmm::engine::native::Error),
    #[error(transparent)]
    Home(#[from] NoHome),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error("{0} cannot be had with QEMU's emulation; leave it out, or give --accel kvm")]
    OnlyForKvm(&'static str),
    #[error(transparent)]
    Emulated(#[from] tcg::RunError),
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("cannot pass on the guest's console")]
    Console(#[source] io::Error),
}

/// Runs the machine to its end.
pub fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os().skip(2)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("mvm vmm: {error}\n\n{}", options::HELP);
            return ExitCode::from(USAGE);
        }
    };
    match run(&options) {
        Ok(Outcome::PoweredOff) => ExitCode::SUCCESS,
        Ok(Outcome::Reset) => {
            eprintln!("mvm vmm: the guest reset itself");
            ExitCode::from(RESET)
        }
        Ok(Outcome::Stopped) => ExitCode::from(STOPPED),
        Ok(Outcome::Failed(why)) => {
            eprintln!("mvm vmm: {why}");
            ExitCode::from(FAILED)
        }
        Err(error) => {
            eprintln!("mvm vmm: {}", Chain(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn run(options: &Options) -> Result<Outcome, Error> {
    let started = Instant::now();
    let stages = Stages { started, are_shown: options.shows_stages };
    stages.tell("main");
    // What is asked for by name is tried, and says itself why it cannot be had.
    if options.accel == Accel::Kvm {
        return native::run(options, stages);
    }
    let home = Home::from_env()?;
    let directories = Directories { data: home.data, cache: home.cache };
    let qemu = || programs::qemu(&directories, Pins::Exact, progress::to_stderr().as_ref());
    let choice = engine::choose(options.accel, qemu)?;
    eprintln!("mvm vmm: {}", choice.sentence());
    match choice.engine {
        Engine::Kvm => native::run(options, stages),
        Engine::Tcg { command } => match options.only_for_kvm() {
            Some(name) => Err(Error::OnlyForKvm(name)),
            None => emulated::run(&command, options),
        },
    }
}

/// Says how far the start has come, and after how long.
#[derive(Debug, Clone, Copy)]
struct Stages {
    started: Instant,
    are_shown: bool,
}

impl Stages {
    fn tell(self, stage: &str) {
        if self.are_shown {
            eprintln!("mvm vmm: {stage} after {} us", self.started.elapsed().as_micros());
        }
    }
}

fn open(what: &'static str, path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Open { what, path: path.display().to_string(), source })
}

fn connect(socket: &Path) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Network { socket: socket.display().to_string(), source };
    Ok(UnixStream::connect(socket).map_err(failed)?.into())
}

/// A file, or standard output.
fn sink(path: Option<&Path>) -> Result<Box<dyn io::Write + Send>, Error> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    let failed = |source| Error::Open { what: "console", path: path.display().to_string(), source };
    Ok(Box::new(console::file(path).map_err(failed)?))
}
