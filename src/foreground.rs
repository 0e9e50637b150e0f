//! `mvm vmm`: one machine in the foreground, from plain files; neither supervisor nor appliance is needed.
//!
//! It comes before the command line and the asynchronous runtime, so that a machine costs only itself.

mod options;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use vmm::console::{self, Console};
use vmm::devices::blk::{Disk, DiskError};
use vmm::engine::native::{self, Config, Outcome};
use vmm::hypervisor::Host;

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
    let (console, printed) = console(options.console.as_deref())?;
    let disk = |disk: &options::Disk| Disk::open(&disk.path, disk.is_read_only);
    let config = Config {
        cpus: options.cpus,
        memory: options.memory,
        kernel: open("kernel", &options.kernel)?,
        initrd: options.initrd.as_deref().map(|path| open("initial ramdisk", path)).transpose()?,
        command_line: options.command_line.clone(),
        disks: options.disks.iter().map(disk).collect::<Result<_, _>>()?,
        console: printed,
    };
    // Nobody orders it about: a signal ends this process, and with it the machine.
    let (_, orders) = native::control();
    let outcome = native::run(&Host::open()?, config, orders);
    console.finish();
    Ok(outcome?)
}

fn open(what: &'static str, path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Open { what, path: path.display().to_string(), source })
}

/// A file, or standard output.
fn console(path: Option<&Path>) -> Result<(Console, OwnedFd), Error> {
    let failed = |source| Error::Open {
        what: "console",
        path: path.map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
        source,
    };
    path.map_or_else(|| Console::to(io::stdout()), |path| console::file(path).and_then(Console::to))
        .map_err(failed)
}
