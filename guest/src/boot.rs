//! The boot after init's own part: onboot containers in order, then the services.

use std::path::Path;
use std::sync::Arc;

use protocol::agent::BootFailed;

use crate::bundle::{self, Bundle, Runc};
use crate::init::boot_milliseconds;
use crate::services::{self, Tools};
use crate::step::{self, Error};
use crate::system::System;

const ONBOOT: &str = "/containers/onboot";
/// How much of a failed step's output goes with the report.
const LAST_LINES: usize = 20;

/// Boots. The error is what the host is told.
pub(crate) async fn boot(system: &Arc<System>) -> Result<(), BootFailed> {
    bundle::volumes::mount_all().map_err(|error| system.failure("volumes", "init", &error.into()))?;
    let onboot =
        bundle::list(Path::new(ONBOOT)).map_err(|error| system.failure("init", "init", &error.into()))?;
    for directory in onboot {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let source = format!("onboot.{name}");
        let started = boot_milliseconds();
        step::run(system, &directory, &source)
            .await
            .map_err(|error| system.failure(&name, &source, &error))?;
        system.events.stage(&name, started);
    }
    start_services(system).map_err(|error| system.failure("services", "init", &error))?;
    // Kept off the way to the services: nothing needs it before the first container has a network of its own.
    if system.network.as_ref().is_some_and(Result::is_ok)
        && let Err(error) = crate::net::masquerade()
    {
        system.logs.say(format!("containers have no way out of the guest: {error}"));
    }
    tokio::spawn(crate::selftest::run_at_boot(Arc::clone(system)));
    tokio::spawn(crate::crashed::end_forever(Arc::clone(system)));
    Ok(())
}

fn start_services(system: &System) -> Result<(), Error> {
    let bundles = services::bundles()?;
    if bundles.is_empty() {
        return Ok(());
    }
    let tools = Tools {
        runc: Runc::find(&system.children, &system.logs)?,
        events: system.events.clone(),
        logs: system.logs.clone(),
    };
    for directory in bundles {
        let bundle = Bundle::open(&directory)?;
        bundle.prepare()?;
        system.services.start(bundle, &tools);
    }
    Ok(())
}

impl System {
    fn failure(&self, stage: &str, source: &str, error: &Error) -> BootFailed {
        BootFailed {
            stage: stage.to_owned(),
            reason: error.to_string(),
            last_lines: self.logs.last(source, LAST_LINES),
        }
    }
}
