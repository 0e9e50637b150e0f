//! Streams of answers that grow while somebody reads them: events and log lines.

use std::sync::Arc;

use protocol::agent::{Event, LogLine, LogsRequest};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::Status;

use crate::logs::Line;
use crate::system::System;

/// How much is on its way to a reader; a slow one waits, and gets what is still in memory then.
const ON_THE_WAY: usize = 64;

pub(super) type Answers<T> = Receiver<Result<T, Status>>;

/// All events so far, then each new one.
pub(super) fn watch(system: &Arc<System>) -> Answers<Event> {
    let (sender, receiver) = channel(ON_THE_WAY);
    let events = system.events.clone();
    tokio::spawn(async move {
        let mut changes = events.changes();
        let mut next = 0;
        loop {
            changes.borrow_and_update();
            let (new, after) = events.since(next);
            next = after;
            if !send_all(&sender, new).await || !changed(&mut changes, &sender).await {
                return;
            }
        }
    });
    receiver
}

/// The lines in memory, then (if asked) each new one.
pub(super) fn logs(system: &Arc<System>, request: LogsRequest) -> Answers<LogLine> {
    let (sender, receiver) = channel(ON_THE_WAY);
    let logs = system.logs.clone();
    tokio::spawn(async move {
        let mut changes = logs.changes();
        let mut next = 0;
        loop {
            changes.borrow_and_update();
            let new = logs.since(&request.source, next);
            next = new.last().map_or(next, |line| line.sequence.saturating_add(1));
            let new = new.into_iter().map(log_line).collect();
            if !send_all(&sender, new).await || !request.follow || !changed(&mut changes, &sender).await {
                return;
            }
        }
    });
    receiver
}

/// Waits for news, as long as there is a reader.
async fn changed<T>(changes: &mut tokio::sync::watch::Receiver<u64>, sender: &Sender<T>) -> bool {
    tokio::select! {
        changed = changes.changed() => changed.is_ok(),
        () = sender.closed() => false,
    }
}

async fn send_all<T>(sender: &Sender<Result<T, Status>>, all: Vec<T>) -> bool {
    for one in all {
        if sender.send(Ok(one)).await.is_err() {
            return false;
        }
    }
    true
}

fn log_line(line: Line) -> LogLine {
    LogLine {
        source: line.source.to_string(),
        unix_ms: line.unix_ms,
        line: line.bytes,
        sequence: line.sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_gets_old_and_new_lines_and_others_only_the_old() {
        let system = Arc::new(System::default());
        system.logs.say("old");
        let request = |follow| LogsRequest { source: "init".to_owned(), follow };
        let mut once = logs(&system, request(false));
        let mut following = logs(&system, request(true));
        assert_eq!(once.recv().await.unwrap().unwrap().line, b"old");
        assert!(once.recv().await.is_none(), "it ends");
        assert_eq!(following.recv().await.unwrap().unwrap().line, b"old");
        system.logs.say("new");
        assert_eq!(following.recv().await.unwrap().unwrap().line, b"new");
    }

    #[tokio::test]
    async fn a_watcher_sees_each_event_once() {
        let system = Arc::new(System::default());
        system.events.ready();
        let mut events = watch(&system);
        events.recv().await.unwrap().unwrap();
        system.events.shutting_down();
        events.recv().await.unwrap().unwrap();
        assert!(events.try_recv().is_err());
    }
}
