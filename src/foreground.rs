//! `mvm vmm`: one machine in the foreground, from plain files; neither supervisor nor appliance is needed.
//!
//! It comes before the command line and the asynchronous runtime, so that a machine costs only itself.

mod options;

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use vmm::console::{self, Console};
use vmm::devices::blk::{Disk, DiskError};
use vmm::engine::native::{self, Config, Outcome, Watcher};
use vmm::hypervisor::Host;
use vmm::sandbox::{self, Confinement, Limits};

use self::options::{Asked, Options};
use crate::cli::failure::Chain;

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
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Hypervisor(#[from] vmm::hypervisor::Error),
    #[error(transparent)]
    Machine(#[from] native::Error),
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
    let sink = sink(options.console.as_deref())?;
    let disk = |disk: &options::Disk| Disk::open(&disk.path, disk.is_read_only);
    let kernel = open("kernel", &options.kernel)?;
    let initrd = options.initrd.as_deref().map(|path| open("initial ramdisk", path)).transpose()?;
    let disks = options.disks.iter().map(disk).collect::<Result<_, _>>()?;
    let host = Host::open()?;
    // Everything is open, and there is no other thread yet.
    let confinement = enter(options)?;
    let (console, printed) = Console::to(sink, confinement.clone()).map_err(Error::Console)?;
    let config = Config {
        cpus: options.cpus,
        memory: options.memory,
        kernel,
        initrd,
        command_line: options.command_line.clone(),
        disks,
        network: None,
        vsock: None,
        balloon: options.balloon,
        console: printed,
        confinement,
        watcher: if options.shows_stages { stages(started) } else { Watcher::default() },
    };
    // Nobody orders it about: a signal ends this process, and with it the machine.
    let (_, orders) = native::control();
    let outcome = native::run(&host, config, orders);
    console.finish();
    Ok(outcome?)
}

/// Says how far the start has come, and after how long.
fn stages(started: Instant) -> Watcher {
    Watcher::new(move |stage| {
        eprintln!("mvm vmm: {} after {} us", stage.name(), started.elapsed().as_micros());
    })
}

/// Says what of the sandbox is not there.
fn enter(options: &Options) -> Result<Confinement, Error> {
    if !options.is_sandboxed {
        eprintln!("mvm vmm: without a sandbox: a guest that takes this process over may do what you may");
        return Ok(Confinement::default());
    }
    let applied = sandbox::enter(&Limits::of_machine(options.memory, options.cpus))?;
    for missing in &applied.missing {
        eprintln!("mvm vmm: the sandbox is not whole: {missing}");
    }
    Ok(applied.confinement)
}

fn open(what: &'static str, path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Open { what, path: path.display().to_string(), source })
}

/// A file, or standard output.
fn sink(path: Option<&Path>) -> Result<Box<dyn io::Write + Send>, Error> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    let failed = |source| Error::Open { what: "console", path: path.display().to_string(), source };
    Ok(Box::new(console::file(path).map_err(failed)?))
}
