//! Init from its first instruction to power-off.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use protocol::agent::BootFailed;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::init::{self, Machine, boot_milliseconds};
use crate::process::reap_forever;
use crate::system::System;
use crate::{agent, boot, shutdown};

/// How long a machine whose boot failed stays, so that the host can ask what happened.
const FAILED_GRACE: Duration = Duration::from_secs(60);

/// Why init cannot even begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Init(#[from] init::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Returns only when the machine could not be powered off: then the kernel panics and reboots, which ends it as well.
pub(crate) fn run() -> ExitCode {
    if let Err(error) = start() {
        console(&format!("init cannot go on: {error}"));
    }
    shutdown::power_off();
    ExitCode::FAILURE
}

fn start() -> Result<(), Error> {
    let started_ms = boot_milliseconds();
    let machine = init::early()?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    finish(runtime, live(machine, started_ms))
}

/// Leaves behind what still blocks: dropped, the runtime would wait for a mount that takes its time.
fn finish<T>(runtime: Runtime, life: impl Future<Output = T>) -> T {
    let result = runtime.block_on(life);
    runtime.shutdown_background();
    result
}

async fn live(machine: Machine, started_ms: u64) -> Result<(), Error> {
    let system = Arc::new(System { network: machine.args.network, ..System::default() });
    let signals = Signals::listen().map_err(Error::Signals)?;
    tokio::spawn(reap_forever(system.children.clone(), signal(SignalKind::child()).map_err(Error::Signals)?));
    agent::listen(&system);
    for warning in machine.warnings {
        system.logs.say(warning.to_string());
    }
    system.events.stage_at("kernel", 0, started_ms);
    system.events.stage("init", started_ms);
    let booting = tokio::spawn(boot_or_report(Arc::clone(&system)));
    tokio::select! {
        () = system.stop.notified() => {}
        () = signals.any() => system.logs.say("asked to stop by a signal"),
    }
    booting.abort();
    shutdown::shut_down(&system).await;
    Ok(())
}

async fn boot_or_report(system: Arc<System>) {
    let Err(failure) = boot::boot(&system).await else { return };
    report(&system, failure);
    tokio::time::sleep(FAILED_GRACE).await;
    system.stop.notify_one();
}

fn report(system: &System, failure: BootFailed) {
    let text = format!("boot failed at {}: {}", failure.stage, failure.reason);
    console(&text);
    for line in &failure.last_lines {
        console(line);
    }
    system.logs.say(text);
    system.events.failed(failure);
}

/// A line for people who can see nothing but the console. Where there is none, nobody can.
fn console(text: &str) {
    if let Ok(mut console) = std::fs::OpenOptions::new().write(true).open("/dev/console") {
        drop(writeln!(console, "mvm init: {text}"));
    }
}

/// What the kernel sends init when the ACPI power button is pressed, SIGRTMIN+4 (drivers/acpi/tiny-power-button.c,
/// CONFIG_ACPI_TINY_POWER_BUTTON_SIGNAL).
const POWER_BUTTON: i32 = 38;

/// The signals that ask PID 1 to end the machine: Ctrl-Alt-Del, the power button, a power failure, or a person with
/// kill(1).
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    power: Signal,
    button: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            power: signal(SignalKind::from_raw(libc::SIGPWR))?,
            button: signal(SignalKind::from_raw(POWER_BUTTON))?,
        })
    }

    async fn any(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.power.recv() => {}
            _ = self.button.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_end_does_not_wait_for_what_blocks() {
        let (release, blocked) = channel::<()>();
        let (ended, has_ended) = channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            finish(runtime, async { drop(tokio::task::spawn_blocking(move || blocked.recv())) });
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(release);
    }
}
