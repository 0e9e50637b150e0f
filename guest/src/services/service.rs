//! One service, from its first start to the end of the machine.

use std::time::Instant;

use protocol::SERVICE_STOP;
use protocol::agent::ServiceChanged;
use protocol::agent::service_changed::State;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Tools;
use super::backoff::Backoff;
use super::notify::Notify;
use super::ping::until_answered;
use crate::bundle::{Bundle, RuncError, Running};
use crate::init::boot_milliseconds;

/// Files by which a program refuses to start when the process that they name exists, which after a crash may be any.
const STALE: &[(&str, &str)] =
    &[("dockerd", "/run/docker.pid"), ("containerd", "/run/containerd/containerd.pid")];

#[derive(Debug)]
pub(super) struct Service {
    bundle: Bundle,
    tools: Tools,
    restarts: u32,
    last_exit: String,
}

/// Why a run is over.
enum Ended {
    Itself(String),
    Stopped,
}

impl Service {
    pub(super) fn new(bundle: Bundle, tools: Tools) -> Self {
        Self { bundle, tools, restarts: 0, last_exit: String::new() }
    }

    /// Starts the service until it is told to stop.
    pub(super) async fn keep_running(mut self, mut stopping: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let Ended::Itself(how) = self.run_once(&mut stopping).await else { break };
            self.tools.logs.say(format!("{} ended: {how}", self.bundle.name));
            self.last_exit = how;
            self.restarts = self.restarts.saturating_add(1);
            self.changed(State::BackingOff);
            tokio::select! {
                () = sleep(backoff.after(started.elapsed())) => {}
                () = told_to_stop(&mut stopping) => break,
            }
        }
        self.changed(State::Stopped);
    }

    async fn run_once(&self, stopping: &mut watch::Receiver<bool>) -> Ended {
        if *stopping.borrow() {
            return Ended::Stopped;
        }
        self.changed(State::Starting);
        let started_ms = boot_milliseconds();
        if let Err(error) = self.remove_leftovers().await {
            return Ended::Itself(error.to_string());
        }
        let notify = self.notify_socket();
        let env: Vec<String> = notify.iter().map(Notify::variable).collect();
        let mut running = match self.tools.runc.start(&self.bundle, &self.bundle.name, &env).await {
            Ok(running) => running,
            Err(error) => return Ended::Itself(error.to_string()),
        };
        let watching = self.until_ready(notify.as_ref(), started_ms);
        tokio::pin!(watching);
        let mut watched = false;
        loop {
            tokio::select! {
                () = &mut watching, if !watched => watched = true,
                exit = &mut running.end => {
                    return Ended::Itself(exit.map_or_else(|_| "lost".to_owned(), |exit| exit.to_string()));
                }
                () = told_to_stop(stopping) => {
                    self.stop(&mut running).await;
                    return Ended::Stopped;
                }
            }
        }
    }

    /// A service that does not see the guest's `/run` cannot tell when it is ready.
    fn notify_socket(&self) -> Option<Notify> {
        let name = &self.bundle.name;
        if !self.bundle.spec.shares(&Notify::path_of(name)) {
            return None;
        }
        Notify::bind(name)
            .inspect_err(|error| {
                self.tools.logs.say(format!("cannot bind a socket for {name} to notify: {error}"));
            })
            .ok()
    }

    /// Says when the service is up, and when with it the builder answers.
    async fn until_ready(&self, notify: Option<&Notify>, started_ms: u64) {
        let logs = &self.tools.logs;
        if let Some(Err(error)) = wait_for(notify).await {
            logs.say(format!("cannot hear from {}: {error}", self.bundle.name));
        }
        self.changed(State::Running);
        self.tools.events.stage(&format!("service {}", self.bundle.name), started_ms);
        if notify.is_some() && until_answered(logs).await {
            self.tools.events.ready();
        }
    }

    /// What a run that was killed leaves behind.
    async fn remove_leftovers(&self) -> Result<(), RuncError> {
        self.tools.runc.delete(&self.bundle.name, &self.bundle.name).await?;
        let program = self.bundle.spec.args().first().and_then(|path| path.rsplit('/').next());
        for (_, file) in STALE.iter().filter(|(name, _)| Some(*name) == program) {
            // Mostly there is none.
            drop(std::fs::remove_file(file));
        }
        Ok(())
    }

    async fn stop(&self, running: &mut Running) {
        running.signal(Signal::TERM);
        // dockerd gives its containers 15 seconds of it.
        if timeout(SERVICE_STOP, &mut running.end).await.is_err() {
            self.tools.logs.say(format!("{} did not stop within {SERVICE_STOP:?}: killed", self.bundle.name));
            running.signal(Signal::KILL);
        }
    }

    fn changed(&self, state: State) {
        self.tools.events.service(ServiceChanged {
            name: self.bundle.name.clone(),
            state: state.into(),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
        });
    }
}

/// That nobody can tell any more means the same.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

async fn wait_for(notify: Option<&Notify>) -> Option<std::io::Result<()>> {
    match notify {
        Some(notify) => Some(notify.ready().await),
        None => None,
    }
}
