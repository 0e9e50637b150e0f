//! One container that runs to its end: a step of the boot or of the shutdown.

use std::path::Path;

use crate::applets;
use crate::bundle::{self, Bundle, Runc, RuncError};
use crate::process::Exit;
use crate::system::System;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error(transparent)]
    Applet(#[from] applets::Error),
    #[error(transparent)]
    Runc(#[from] RuncError),
    #[error("it ended with {0}")]
    Ended(Exit),
    #[error("init lost sight of it")]
    Lost,
}

/// Runs it; what it prints goes to the logs of `source`.
pub(crate) async fn run(system: &System, directory: &Path, source: &str) -> Result<(), Error> {
    let bundle = Bundle::open(directory)?;
    bundle.prepare()?;
    match bundle.spec.applet() {
        Some(applet) => {
            if applet == "binfmt" {
                system.platforms.tests_lie_below(&bundle.rootfs);
            }
            let context = applets::Context {
                bundle: &bundle,
                children: &system.children,
                logs: &system.logs,
                source,
                network: system.network.as_ref(),
            };
            Ok(applets::run(applet, &context).await?)
        }
        None => run_container(system, &bundle, source).await,
    }
}

async fn run_container(system: &System, bundle: &Bundle, source: &str) -> Result<(), Error> {
    let runc = Runc::find(&system.children, &system.logs)?;
    let running = runc.start(bundle, source, &[]).await?;
    let exit = running.wait().await.ok_or(Error::Lost)?;
    let deleted = runc.delete(&bundle.name, source).await;
    // How it ended tells more than what became of its rest.
    if exit.success() { Ok(deleted?) } else { Err(Error::Ended(exit)) }
}
