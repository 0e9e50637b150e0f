//! What the guest says by itself: its events, and what its programs print. A connection that breaks is made again.

use std::time::Duration;

use protocol::agent::{Event, event};
use tokio::sync::mpsc;

use super::builder_check;
use super::log_files::LogFiles;
use crate::agent::Agent;
use crate::printable::printable;

/// Between two tries to reach the agent.
const RETRY: Duration = Duration::from_millis(250);

/// What the tasks beside a machine tell of it.
#[derive(Debug)]
pub(super) enum News {
    Guest(event::Event),
    BuilderAnswers(Result<(), builder_check::Error>),
}

/// Passes each event on once. Runs until nobody listens.
pub(super) async fn events(agent: &Agent, news: &mpsc::Sender<News>) {
    let mut next = 0;
    loop {
        if let Ok(mut events) = agent.watch().await {
            // After a reconnection the guest tells everything again.
            while let Ok(Some(Event { sequence, event: Some(event) })) = events.message().await {
                if sequence < next {
                    continue;
                }
                next = sequence.saturating_add(1);
                if news.send(News::Guest(event)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes each line to the file of its source. Runs until it is dropped: what cannot be written, as while the disk is
/// full, is left out.
pub(super) async fn logs(agent: &Agent, mut files: LogFiles) {
    let mut next = 0;
    let mut is_complete = true;
    loop {
        if let Ok(mut lines) = agent.logs("", true).await {
            while let Ok(Some(line)) = lines.message().await {
                if line.sequence < next {
                    continue;
                }
                next = line.sequence.saturating_add(1);
                let written = files.append(&line);
                if let Err(error) = &written
                    && is_complete
                {
                    tracing::warn!(%error, source = %printable(&line.source), "cannot write a log");
                }
                is_complete = written.is_ok();
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
