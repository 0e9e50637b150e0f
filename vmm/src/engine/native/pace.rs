//! How a machine goes, stands still, and goes on: first its vCPUs pause, then its devices, which may have work from them.

use std::sync::mpsc::Sender;

use super::{Stage, Watcher};
use crate::hypervisor::Kick;
use crate::vcpu::Handle;
use crate::worker::Worker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    /// So many vCPUs have yet to say that they are paused; each of them will.
    Slowing(usize),
    Still,
}

/// Moves towards what was ordered last.
pub(super) struct Pace<'m, K: Kick> {
    vcpus: &'m [Handle<K>],
    workers: &'m [Worker],
    state: State,
    /// Whether it is to stand still, and who waits for that.
    is_to_pause: bool,
    waiting: Vec<Sender<()>>,
    /// Told when the guest begins to run.
    watcher: Option<&'m Watcher>,
}

impl<'m, K: Kick> Pace<'m, K> {
    /// All vCPUs begin together, when the last of them has been made and is paused.
    pub(super) fn new(vcpus: &'m [Handle<K>], workers: &'m [Worker], watcher: &'m Watcher) -> Self {
        let state = State::Slowing(vcpus.len());
        Self { vcpus, workers, state, is_to_pause: false, waiting: Vec::new(), watcher: Some(watcher) }
    }

    pub(super) fn pause(&mut self, waiting: Sender<()>) {
        self.is_to_pause = true;
        self.waiting.push(waiting);
        self.go_on();
    }

    pub(super) fn resume(&mut self) {
        self.is_to_pause = false;
        self.waiting.clear();
        self.go_on();
    }

    /// A vCPU has paused.
    pub(super) fn paused(&mut self) {
        if let State::Slowing(left) = &mut self.state {
            *left = left.saturating_sub(1);
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        match (self.state, self.is_to_pause) {
            (State::Going, true) => {
                self.vcpus.iter().for_each(Handle::pause);
                self.state = State::Slowing(self.vcpus.len());
            }
            (State::Slowing(0), true) => {
                // All of them at once: each may have a slow disk to wait for.
                let paused: Vec<_> = self.workers.iter().map(Worker::pause).collect();
                // One that has ended has nothing under way either.
                paused.into_iter().for_each(|paused| _ = paused.recv());
                self.state = State::Still;
                self.tell();
            }
            (State::Still, true) => self.tell(),
            (State::Slowing(0) | State::Still, false) => {
                if let Some(watcher) = self.watcher.take() {
                    watcher.tell(Stage::Running);
                }
                self.workers.iter().for_each(Worker::resume);
                self.vcpus.iter().for_each(Handle::run);
                self.state = State::Going;
            }
            (State::Going, false) | (State::Slowing(_), _) => {}
        }
    }

    fn tell(&mut self) {
        // Whoever does not want to know has dropped the other end.
        self.waiting.drain(..).for_each(|waiting| _ = waiting.send(()));
    }
}
