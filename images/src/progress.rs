//! How a build tells its caller where it is.
//!
//! A build takes minutes when nothing is cached, so each stage says when it starts and ends and how far it is. What is
//! shown of it, and how, is the caller's business.

use std::time::{Duration, Instant};

/// What a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, of a download.
    Bytes,
    /// Files, of a compilation or an unpacking.
    Files,
}

/// Something that happened during a build. `stage` is the same text from a stage's start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stage began; `total` is an estimate where the stage counts something.
    Started { stage: &'a str, total: Option<u64>, unit: Unit },
    /// So much of the stage is done, counted from its start.
    Advanced { stage: &'a str, done: u64 },
    /// A line that the user should be able to read afterwards, such as a package that a relock moved.
    Said { stage: &'a str, line: &'a str },
    /// A stage ended well. One that failed ends with the build's error instead.
    Ended { stage: &'a str, took: Duration },
}

/// Receives the events of a build, from any of its threads.
pub trait Progress: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &Event<'_>) {}
}

impl<F: Fn(&Event<'_>) + Send + Sync> Progress for F {
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// One running stage; dropping it without [`Stage::end`] leaves it unended, as a failed stage is.
pub struct Stage<'a> {
    name: &'a str,
    progress: &'a dyn Progress,
    since: Instant,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    pub fn start(progress: &'a dyn Progress, name: &'a str, total: Option<u64>, unit: Unit) -> Self {
        progress.event(&Event::Started { stage: name, total, unit });
        Self { name, progress, since: Instant::now() }
    }

    /// Runs `work` as a stage that counts nothing.
    pub fn run<T, E>(
        progress: &'a dyn Progress,
        name: &'a str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let stage = Stage::start(progress, name, None, Unit::Files);
        let value = work()?;
        stage.end();
        Ok(value)
    }

    pub fn advance(&self, done: u64) {
        self.progress.event(&Event::Advanced { stage: self.name, done });
    }

    pub fn say(&self, line: &str) {
        self.progress.event(&Event::Said { stage: self.name, line });
    }

    pub fn end(self) {
        self.progress.event(&Event::Ended { stage: self.name, took: self.since.elapsed() });
    }
}
