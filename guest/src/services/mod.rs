//! The services of the root image: started all at once, started again when they end, stopped in reverse order.

mod backoff;
mod notify;
mod ping;
mod service;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bundle::{self, Bundle, Runc};
use crate::events::Events;
use crate::logs::Logs;

pub(crate) use ping::DOCKER_SOCKET;
use service::Service;

const DIRECTORY: &str = "/containers/services";

/// What services work with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) runc: Runc,
    pub(crate) events: Events,
    pub(crate) logs: Logs,
}

/// Every service that was started, in name order.
#[derive(Debug, Default)]
pub(crate) struct Services {
    running: Mutex<Vec<Handle>>,
}

#[derive(Debug)]
struct Handle {
    name: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The bundles of the root image's services.
pub(crate) fn bundles() -> Result<Vec<PathBuf>, bundle::Error> {
    bundle::list(Path::new(DIRECTORY))
}

impl Services {
    /// Starts a service and returns at once; from now on it is kept running.
    pub(crate) fn start(&self, bundle: Bundle, tools: &Tools) {
        let (stop, stopping) = watch::channel(false);
        let name = bundle.name.clone();
        let task = tokio::spawn(Service::new(bundle, tools.clone()).keep_running(stopping));
        self.lock().push(Handle { name, stop, task });
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.lock().iter().any(|handle| handle.name == name)
    }

    /// Stops every service, the last by name first: it may use those before it, as moby uses containerd.
    pub(crate) async fn stop_all(&self) {
        let handles: Vec<Handle> = self.lock().drain(..).collect();
        for handle in handles.into_iter().rev() {
            handle.stop.send_replace(true);
            // It only fails when the task panicked; then there is nothing left to stop.
            drop(handle.task.await);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Handle>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
