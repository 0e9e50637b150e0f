//! What has happened since the machine started, for whoever watches, however late.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::agent::event::Event as Kind;
use protocol::agent::{BootFailed, Event, PlatformsResponse, Ready, ServiceChanged, ShuttingDown, Stage};
use tokio::sync::watch;

use crate::init::boot_milliseconds;

#[derive(Debug, Default)]
struct Store {
    events: Vec<Event>,
    next: u64,
}

/// The history of the boot. Bounded: of what can happen again and again (a service's changes) the last of each
/// service is kept.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    store: Arc<Mutex<Store>>,
    newest: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { store: Arc::default(), newest: watch::Sender::new(0) }
    }
}

impl Events {
    /// A step of the boot that ends now.
    pub(crate) fn stage(&self, name: &str, started_ms: u64) {
        self.stage_at(name, started_ms, boot_milliseconds());
    }

    /// A step of the boot that ended before anyone could say so.
    pub(crate) fn stage_at(&self, name: &str, started_ms: u64, ended_ms: u64) {
        self.push(Kind::Stage(Stage { name: name.to_owned(), started_ms, ended_ms }));
    }

    /// The builder answers. Said once: services may start again later.
    pub(crate) fn ready(&self) {
        if !self.lock().events.iter().any(|event| matches!(event.event, Some(Kind::Ready(_)))) {
            self.push(Kind::Ready(Ready { at_ms: boot_milliseconds() }));
        }
    }

    pub(crate) fn service(&self, change: ServiceChanged) {
        self.push(Kind::Service(change));
    }

    pub(crate) fn platforms(&self, platforms: PlatformsResponse) {
        self.push(Kind::Platforms(platforms));
    }

    pub(crate) fn failed(&self, failure: BootFailed) {
        self.push(Kind::Failed(failure));
    }

    pub(crate) fn shutting_down(&self) {
        self.push(Kind::ShuttingDown(ShuttingDown {}));
    }

    /// The events from `sequence` on, and the sequence to ask for next.
    pub(crate) fn since(&self, sequence: u64) -> (Vec<Event>, u64) {
        let store = self.lock();
        let new = store.events.iter().filter(|event| event.sequence >= sequence);
        (new.cloned().collect(), store.next)
    }

    /// Changes whenever something happens.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn push(&self, kind: Kind) {
        let next = {
            let mut store = self.lock();
            store.events.retain(|event| !event.event.as_ref().is_some_and(|old| replaces(&kind, old)));
            let sequence = store.next;
            store.next = sequence.saturating_add(1);
            store.events.push(Event { sequence, event: Some(kind) });
            store.next
        };
        self.newest.send_replace(next);
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a late watcher who sees `new` has no use for `old`. "service NAME" ends anew at every restart.
fn replaces(new: &Kind, old: &Kind) -> bool {
    match (new, old) {
        (Kind::Service(new), Kind::Service(old)) => new.name == old.name,
        (Kind::Stage(new), Kind::Stage(old)) => new.name == old.name,
        (Kind::Platforms(_), Kind::Platforms(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, restarts: u32) -> ServiceChanged {
        ServiceChanged { name: name.to_owned(), restarts, ..ServiceChanged::default() }
    }

    #[test]
    fn a_late_watcher_sees_the_history_once_and_then_only_news() {
        let events = Events::default();
        events.stage("kernel", 0);
        events.ready();
        events.ready();
        let (history, next) = events.since(0);
        assert_eq!(history.len(), 2, "ready is said once");
        events.shutting_down();
        assert_eq!(events.since(next).0.len(), 1);
    }

    #[test]
    fn a_service_that_restarts_for_ever_takes_no_more_room() {
        let events = Events::default();
        for restarts in 0..1000 {
            events.service(change("moby", restarts));
            events.service(change("containerd", 0));
        }
        let (history, _) = events.since(0);
        assert_eq!(history.len(), 2);
        assert_eq!(history[0].event, Some(Kind::Service(change("moby", 999))));
    }
}
