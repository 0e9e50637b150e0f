//! What is known about the instance: written by those who run the machine, read by those who answer for it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::protocol::{Event, Platform, PublishedPort, Service, State, Status, Trouble};
use crate::instance::file;

/// More than any boot has: a guest that invents stages does not make this process grow without bound.
const MOST_STAGES: usize = 1000;

const MOST_SERVICES: usize = 64;

/// The one place where an instance's state is kept.
#[derive(Debug)]
pub(super) struct Board {
    file: PathBuf,
    known: Mutex<Known>,
    /// How many events there are; who waits for events waits for this.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Known {
    status: Status,
    events: Vec<Event>,
    start: Instant,
}

impl Board {
    /// `status` is where it begins; each change of the state is written to `file` too.
    pub(super) fn new(file: PathBuf, status: Status) -> Self {
        let known = Known { status, events: Vec::new(), start: Instant::now() };
        Self { file, known: Mutex::new(known), count: watch::Sender::new(0) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.known().status.clone()
    }

    /// The events from the given number on.
    pub(super) fn events_from(&self, number: usize) -> Vec<Event> {
        self.known().events.get(number..).unwrap_or_default().to_vec()
    }

    /// Changes when there are more events.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Milliseconds since the machine's start.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.known().start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A machine is being started.
    pub(super) fn starting(&self) {
        self.change(|known| {
            known.start = Instant::now();
            known.status.state = State::Starting;
            known.status.ready_after_ms = None;
            known.status.services.clear();
            known.status.platforms.clear();
        });
    }

    /// A stage of the boot that took `took_ms` has ended right now.
    pub(super) fn stage(&self, name: &str, took_ms: u64) {
        if *self.count.borrow() >= MOST_STAGES {
            return;
        }
        let at_ms = self.elapsed_ms();
        self.record(Event::Stage { name: name.to_owned(), took_ms, at_ms });
    }

    pub(super) fn ready(&self) {
        let at_ms = self.elapsed_ms();
        self.change(|known| {
            known.status.state = State::Ready;
            known.status.ready_after_ms = Some(at_ms);
        });
        self.record(Event::Ready { at_ms });
    }

    pub(super) fn stopping(&self) {
        self.change(|known| known.status.state = State::Stopping);
    }

    pub(super) fn stopped(&self, orderly: bool) {
        self.change(|known| known.status.state = State::Stopped);
        self.record(Event::Stopped { orderly });
    }

    pub(super) fn failed(&self, trouble: Trouble) {
        self.change(|known| {
            known.status.state = State::Failed;
            known.status.reason = Some(trouble.reason.clone());
            known.status.last_lines.clone_from(&trouble.last_lines);
            known.status.log = Some(trouble.log.clone());
        });
        self.record(Event::Failed(trouble));
    }

    /// A service changed its state. The guest names them: it does not make the list grow without bound.
    pub(super) fn service(&self, service: Service) {
        let services = &mut self.known().status.services;
        services.retain(|known| known.name != service.name);
        if services.len() < MOST_SERVICES {
            services.push(service);
            services.sort_by(|one, other| one.name.cmp(&other.name));
        }
    }

    pub(super) fn set_lacks(&self, lacks: Vec<String>) {
        for lack in &lacks {
            tracing::warn!("the machine does without: {lack}");
        }
        self.known().status.lacks = lacks;
    }

    pub(super) fn set_platforms(&self, platforms: Vec<Platform>) {
        self.known().status.platforms = platforms;
    }

    pub(super) fn set_published(&self, ports: Vec<PublishedPort>) {
        self.known().status.published_ports = ports;
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        let mut last = known.status.clone();
        drop(known);
        // What is true only while a supervisor lives does not belong in the file.
        last.engine = None;
        last.lacks.clear();
        last.supervisor_pid = None;
        last.services.clear();
        last.platforms.clear();
        last.docker_socket = None;
        last.buildkit_socket = None;
        last.published_ports.clear();
        tracing::info!(state = last.state.as_str(), "state");
        let written = serde_json::to_vec_pretty(&last)
            .map_err(Into::into)
            .and_then(|text| file::replace(&self.file, &text));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.file.display(), "cannot write the state");
        }
    }

    fn record(&self, event: Event) {
        tracing::info!(?event, "event");
        let mut known = self.known();
        known.events.push(event);
        let count = known.events.len();
        drop(known);
        self.count.send_replace(count);
    }
}

#[cfg(test)]
mod tests {
    use super::Board;
    use crate::instance::Config;
    use crate::supervisor::protocol::{Event, Service, State, Status, Trouble};

    fn status() -> Status {
        Status {
            supervisor_pid: Some(1),
            docker_socket: Some("/x".into()),
            ..Status::new(&"test".parse().unwrap(), State::Starting, Config::for_host(2, 0))
        }
    }

    #[test]
    fn state_and_events_follow_what_happens() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state.json");
        let board = Board::new(file.clone(), status());
        let count = board.count();
        board.set_lacks(vec!["a sandbox".into()]);
        board.stage("kernel", 7);
        board.ready();
        assert_eq!(*count.borrow(), 2);
        assert!(
            matches!(&board.events_from(0)[0], Event::Stage { name, took_ms: 7, .. } if name == "kernel")
        );
        assert!(matches!(board.events_from(1)[..], [Event::Ready { .. }]));
        assert_eq!(board.status().state, State::Ready);
        assert_eq!(board.status().lacks, ["a sandbox"]);
        let change = |restarts| protocol::agent::ServiceChanged {
            name: "moby".into(),
            restarts,
            last_exit: "exit status 2".into(),
            ..Default::default()
        };
        board.service((&change(0)).into());
        board.service((&change(3)).into());
        let told: Vec<String> = board.status().services.iter().map(Service::sentence).collect();
        assert_eq!(told, ["starting; restarted 3 times, the last time after exit status 2"]);
        board.failed(Trouble { reason: "gone".into(), last_lines: vec![], log: String::new() });
        assert_eq!(board.status().state, State::Failed);

        let written: Status = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!((written.state, written.reason.as_deref()), (State::Failed, Some("gone")));
        assert_eq!((written.supervisor_pid, written.docker_socket), (None, None));
        assert!(written.lacks.is_empty(), "of a machine that is gone");
    }
}
