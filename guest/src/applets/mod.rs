//! Onboot steps that are a few system calls: init does them itself rather than start a container.

pub(crate) mod binfmt;
mod format;
mod mount;
mod network;
mod signature;
mod sysctl;

use crate::bundle::Bundle;
use crate::kernel_args::NetworkWord;
use crate::logs::Logs;
use crate::process::Children;

/// Why an applet failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no applet called {0}")]
    Unknown(String),
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    #[error(transparent)]
    Binfmt(#[from] binfmt::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    Network(#[from] network::Error),
}

/// What an applet works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) children: &'a Children,
    pub(crate) logs: &'a Logs,
    /// Where its lines go.
    pub(crate) source: &'a str,
    /// `mvm.net`, as the kernel command line has it.
    pub(crate) network: Option<&'a Result<NetworkWord, crate::kernel_args::Error>>,
}

impl Context<'_> {
    fn say(&self, text: &str) {
        let mut writer = self.logs.writer(self.source);
        writer.write(text.as_bytes());
        writer.finish();
    }
}

/// Runs the applet `name` with the arguments that follow it in `process.args` (`["/init", NAME, ARG...]`).
pub(crate) async fn run(name: &str, context: &Context<'_>) -> Result<(), Error> {
    let args = context.bundle.spec.args().get(2..).unwrap_or_default();
    match name {
        "sysctl" => Ok(sysctl::run(context, args)?),
        "binfmt" => Ok(binfmt::run(context, args)?),
        "format" => format::run(context, args).await,
        "mount" => mount::run(context, args).await,
        "network" => Ok(network::run(context)?),
        other => Err(Error::Unknown(other.to_owned())),
    }
}
