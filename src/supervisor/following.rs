//! What the guest says by itself: its events, and what its programs print. A connection that breaks is made again.

use std::time::Duration;

use protocol::agent::event::Event;
use tokio::sync::mpsc;

use super::builder_check;
use super::console::printable;
use super::log_files::LogFiles;
use crate::agent::Agent;

/// Between two tries to reach the agent.
const RETRY: Duration = Duration::from_millis(250);

/// What the tasks beside a machine tell of it.
#[derive(Debug)]
pub(super) enum News {
    Guest(Event),
    BuilderAnswers(Result<(), builder_check::Error>),
}

/// Passes each event on once. Runs until nobody listens.
pub(super) async fn events(agent: &Agent, news: &mpsc::Sender<News>) {
    let mut seen = 0_usize;
    loop {
        if let Ok(mut events) = agent.watch().await {
            // After a reconnection the guest tells everything again.
            let mut number = 0_usize;
            while let Ok(Some(event)) = events.message().await {
                number = number.saturating_add(1);
                if let Some(event) = event.event.filter(|_| number > seen)
                    && news.send(News::Guest(event)).await.is_err()
                {
                    return;
                }
                seen = seen.max(number);
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes each line to the file of its source. Runs until a file cannot be written.
pub(super) async fn logs(agent: &Agent, mut files: LogFiles) {
    loop {
        if let Ok(mut lines) = agent.logs("", true).await {
            while let Ok(Some(line)) = lines.message().await {
                if let Err(error) = files.append(&line) {
                    tracing::warn!(%error, source = %printable(&line.source), "cannot write a log");
                    return;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
