//! PID 1 waits for every process whose parent is gone, so nothing else may wait: one reaper tells each caller how its
//! process ended.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::signal::unix::Signal;
use tokio::sync::{oneshot, watch};

/// How many ends of processes that nobody asked for (yet) are remembered. A container's process can end before
/// runc has said which it is.
const REMEMBERED: usize = 256;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(i32),
    Signal(i32),
}

impl Exit {
    pub(crate) fn success(self) -> bool {
        self == Self::Status(0)
    }

    /// As shells have it: 128 and the signal.
    pub(crate) fn shell_status(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }

    fn from_wait(status: WaitStatus) -> Option<Self> {
        status.exit_status().map(Self::Status).or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// Who waits for which process.
#[derive(Debug, Clone)]
pub(crate) struct Children {
    table: Arc<Mutex<Table>>,
    childless: watch::Sender<bool>,
}

impl Default for Children {
    fn default() -> Self {
        Self { table: Arc::default(), childless: watch::Sender::new(false) }
    }
}

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u32, oneshot::Sender<Exit>>,
    unclaimed: VecDeque<(u32, Exit)>,
}

impl Children {
    /// The end of a process that is a child of init, or will be one when its parent ends. To be called before the
    /// caller yields after it has learnt the process id, so that the id cannot mean another process.
    pub(crate) fn end_of(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.lock();
        match table.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            Some(index) => {
                if let Some((_, exit)) = table.unclaimed.remove(index) {
                    // The receiver is held right here.
                    let _ = sender.send(exit);
                }
            }
            None => drop(table.waiting.insert(pid, sender)),
        }
        receiver
    }

    /// Forgets ends under this id: a new process has it.
    pub(crate) fn started(&self, pid: u32) {
        self.lock().unclaimed.retain(|(ended, _)| *ended != pid);
    }

    /// Waits until init has no child left. Whoever has killed everything knows so when everything is gone: orphans
    /// become init's children.
    pub(crate) async fn none_left(&self) {
        reap(self);
        // It only fails when the sender is gone, and that is held here.
        drop(self.childless.subscribe().wait_for(|childless| *childless).await);
    }

    fn ended(&self, pid: u32, exit: Exit) {
        let mut table = self.lock();
        if let Some(waiting) = table.waiting.remove(&pid) {
            // Whoever stopped waiting does not want to know.
            let _ = waiting.send(exit);
            return;
        }
        if table.unclaimed.len() >= REMEMBERED {
            table.unclaimed.pop_front();
        }
        table.unclaimed.push_back((pid, exit));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps at every SIGCHLD, for ever.
pub(crate) async fn reap_forever(children: Children, mut child_signal: Signal) {
    loop {
        reap(&children);
        if child_signal.recv().await.is_none() {
            return;
        }
    }
}

fn reap(children: &Children) {
    let childless = loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = Exit::from_wait(status) {
                    children.ended(pid.as_raw_nonzero().get().unsigned_abs(), exit);
                }
            }
            Ok(None) => break false,
            Err(error) => break error == Errno::CHILD,
        }
    };
    children.childless.send_replace(childless);
}

/// What a test needs that starts programs. A process has one reaper, which takes every child: such tests take turns,
/// each as long as it keeps the guard.
#[cfg(test)]
pub(crate) async fn reaper_of_a_test() -> (Children, tokio::sync::MutexGuard<'static, ()>) {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = TURN.lock().await;
    let children = Children::default();
    let child_signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child()).unwrap();
    tokio::spawn(reap_forever(children.clone(), child_signal));
    (children, turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_told_whether_it_was_waited_for_before_or_after() {
        let children = Children::default();
        let before = children.end_of(10);
        children.ended(10, Exit::Status(3));
        children.ended(11, Exit::Signal(9));
        assert_eq!(before.await, Ok(Exit::Status(3)));
        assert_eq!(children.end_of(11).await, Ok(Exit::Signal(9)));
    }

    #[test]
    fn an_old_end_does_not_count_for_a_new_process() {
        let children = Children::default();
        children.ended(12, Exit::Status(0));
        children.started(12);
        assert!(children.end_of(12).try_recv().is_err());
    }

    #[test]
    fn ends_nobody_asks_for_are_bounded() {
        let children = Children::default();
        for pid in 0..10_000 {
            children.ended(pid, Exit::Status(0));
        }
        assert_eq!(children.lock().unclaimed.len(), REMEMBERED);
    }

    #[test]
    fn an_exit_reads_as_people_say_it() {
        assert_eq!(Exit::Status(2).to_string(), "exit status 2");
        assert_eq!(Exit::Signal(9).to_string(), "killed by signal 9");
        assert_eq!(Exit::Signal(15).shell_status(), 143);
    }
}
