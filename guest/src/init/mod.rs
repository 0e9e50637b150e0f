//! The first milliseconds of user space: what every program expects of a Linux system, made by system calls.

mod cgroups;
mod clock;
mod limits;
mod mounts;
mod root;

use std::io;
use std::path::PathBuf;

pub(crate) use cgroups::kill_all_but_init;
pub(crate) use clock::{boot_milliseconds, step_to, unix_milliseconds};

use crate::kernel_args::KernelArgs;

/// A step of init that failed, and on what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot mount {kind} on {on}: {source}")]
    Mount { kind: &'static str, on: &'static str, source: io::Error },
    #[error("cannot put the root on a mount of its own: {source}")]
    Root { source: io::Error },
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot write {what} to {}: {source}", path.display())]
    Write { what: String, path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot set {what}: {source}")]
    Set { what: &'static str, source: io::Error },
    #[error(transparent)]
    KernelArgument(#[from] crate::kernel_args::Error),
    #[error("cannot bring up the loopback interface: {0}")]
    Loopback(#[source] crate::net::Error),
}

/// What is known of the machine when the early part is over.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) args: KernelArgs,
    /// Steps that failed without making the boot pointless.
    pub(crate) warnings: Vec<Error>,
}

/// Makes the guest usable for programs. Only what nothing can work without is an error.
pub(crate) fn early() -> Result<Machine, Error> {
    root::on_its_own_mount()?;
    let warnings = mounts::mount_all()?;
    let cmdline = std::fs::read_to_string("/proc/cmdline")
        .map_err(|source| Error::Read { path: PathBuf::from("/proc/cmdline"), source })?;
    let mut machine = Machine { args: KernelArgs::parse(&cmdline), warnings };
    let steps = [
        clock::set_from(machine.args.clock.take()),
        cgroups::delegate(),
        limits::raise(),
        hostname(),
        mounts::device_links(),
        crate::net::loopback_up().map_err(Error::Loopback),
    ];
    machine.warnings.extend(steps.into_iter().filter_map(Result::err));
    Ok(machine)
}

/// The name in `/etc/hostname`, or `mvm`.
fn hostname() -> Result<(), Error> {
    let file = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = match file.trim() {
        "" => "mvm",
        name => name,
    };
    rustix::system::sethostname(name.as_bytes())
        .map_err(|error| Error::Set { what: "the host name", source: error.into() })
}
