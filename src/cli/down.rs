//! `mvm down`: an orderly end.

use std::time::Duration;

use super::{Context, Failure};
use crate::instance::{Lock, Name};
use crate::supervisor::client;

/// How long a supervisor may take to end after its answer.
const ENDING: Duration = Duration::from_secs(30);

/// Stop an instance; its disk stays
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance [default: that of --instance, or of `mvm use`]
    name: Option<Name>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no instance is named {0}; `mvm ls` shows which there are")]
    Unknown(Name),
    #[error("a process that does not answer holds {0}; `mvm logs supervisor` may say which")]
    Held(Name),
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    stop(context, &args.name.unwrap_or_else(|| context.name.clone())).await
}

/// Stops an instance that runs, and says so.
pub(super) async fn stop(context: &Context, name: &Name) -> Result<(), Failure> {
    if stop_quietly(context, name).await? {
        eprintln!("{name} is stopped");
    } else {
        eprintln!(
            "{name} did not power off in time, and was killed: what it had not written to its disk is lost"
        );
    }
    Ok(())
}

/// Whether the guest powered off by itself.
pub(super) async fn stop_quietly(context: &Context, name: &Name) -> Result<bool, Failure> {
    let paths = context.home.instance(name);
    if !paths.config().exists() {
        return Err(Error::Unknown(name.clone()).into());
    }
    let orderly = match client::down(&paths).await {
        Ok(orderly) => orderly,
        Err(error) if error.is_no_machine() => true,
        Err(error) => return Err(error.into()),
    };
    // The supervisor answers a moment before it ends.
    if !Lock::becomes_free(&paths, ENDING).await {
        return Err(Error::Held(name.clone()).into());
    }
    Ok(orderly)
}
