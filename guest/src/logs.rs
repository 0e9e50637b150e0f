//! Captured output, kept in memory: a bounded ring for each source, so that a noisy one cannot push out the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Longer lines are cut into pieces of this size.
const LINE_LIMIT: usize = 16 * 1024;
/// What one source may hold.
const SOURCE_LIMIT: usize = 1024 * 1024;
/// Counted for each line beside its bytes, so that empty lines are not free.
const LINE_OVERHEAD: usize = 64;
/// The source of init's own lines.
pub(crate) const INIT: &str = "init";

/// One captured line, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) sequence: u64,
    pub(crate) source: Arc<str>,
    pub(crate) unix_ms: i64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    size: usize,
}

#[derive(Debug, Default)]
struct Store {
    rings: BTreeMap<Arc<str>, Ring>,
    next: u64,
}

/// Every source's lines.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    store: Arc<Mutex<Store>>,
    newest: watch::Sender<u64>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { store: Arc::default(), newest: watch::Sender::new(0) }
    }
}

impl Logs {
    /// A line of init's own.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        self.push(INIT, text.as_ref().as_bytes().to_vec());
    }

    /// Cuts what is written to it into lines of `source`.
    pub(crate) fn writer(&self, source: &str) -> LineWriter {
        LineWriter { logs: self.clone(), source: source.to_owned(), partial: Vec::new() }
    }

    /// The lines from `sequence` on, of one source or (for an empty name) of all, oldest first.
    pub(crate) fn since(&self, source: &str, sequence: u64) -> Vec<Line> {
        let store = self.lock();
        let wanted = store.rings.iter().filter(|(name, _)| source.is_empty() || &***name == source);
        let newer = |ring: &Ring| {
            let start = ring.lines.partition_point(|line| line.sequence < sequence);
            ring.lines.range(start..).cloned().collect::<Vec<_>>()
        };
        let mut lines: Vec<Line> = wanted.flat_map(|(_, ring)| newer(ring)).collect();
        lines.sort_by_key(|line| line.sequence);
        lines
    }

    /// The last lines of a source, as text.
    pub(crate) fn last(&self, source: &str, count: usize) -> Vec<String> {
        let store = self.lock();
        let Some(ring) = store.rings.get(source) else { return Vec::new() };
        let skip = ring.lines.len().saturating_sub(count);
        ring.lines.iter().skip(skip).map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    /// Changes whenever a line comes in.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn push(&self, source: &str, bytes: Vec<u8>) {
        let sequence = {
            let mut store = self.lock();
            let sequence = store.next;
            store.next = sequence.saturating_add(1);
            let name = match store.rings.get_key_value(source) {
                Some((name, _)) => Arc::clone(name),
                None => Arc::from(source),
            };
            let line = Line {
                sequence,
                source: Arc::clone(&name),
                unix_ms: crate::init::unix_milliseconds(),
                bytes,
            };
            store.rings.entry(name).or_default().push(line);
            sequence
        };
        self.newest.send_replace(sequence.saturating_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, line: Line) {
        self.size = self.size.saturating_add(cost(&line));
        self.lines.push_back(line);
        while self.size > SOURCE_LIMIT {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.size = self.size.saturating_sub(cost(&oldest));
        }
    }
}

fn cost(line: &Line) -> usize {
    line.bytes.len().saturating_add(LINE_OVERHEAD)
}

/// Collects the bytes of one stream until a line is whole.
#[derive(Debug)]
pub(crate) struct LineWriter {
    logs: Logs,
    source: String,
    partial: Vec<u8>,
}

impl LineWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.extend(end);
                    self.emit();
                }
                None => self.extend(piece),
            }
        }
    }

    /// What stands after the last newline is a line too.
    pub(crate) fn finish(mut self) {
        if !self.partial.is_empty() {
            self.emit();
        }
    }

    fn extend(&mut self, mut bytes: &[u8]) {
        while self.partial.len().saturating_add(bytes.len()) > LINE_LIMIT {
            let (now, later) = bytes.split_at(LINE_LIMIT.saturating_sub(self.partial.len()).min(bytes.len()));
            self.partial.extend_from_slice(now);
            self.emit();
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn emit(&mut self) {
        self.logs.push(&self.source, std::mem::take(&mut self.partial));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(logs: &Logs, source: &str) -> Vec<String> {
        logs.last(source, usize::MAX)
    }

    #[test]
    fn lines_are_joined_over_writes_and_the_last_needs_no_newline() {
        let logs = Logs::default();
        let mut writer = logs.writer("a");
        writer.write(b"one\ntw");
        writer.write(b"o\n\nthree");
        writer.finish();
        assert_eq!(texts(&logs, "a"), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_long_line_is_cut() {
        let logs = Logs::default();
        let mut writer = logs.writer("a");
        writer.write(&vec![b'x'; 2 * LINE_LIMIT + 5]);
        writer.write(b"\n");
        writer.finish();
        let lengths: Vec<usize> = texts(&logs, "a").iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_LIMIT, LINE_LIMIT, 5]);
    }

    #[test]
    fn a_source_is_bounded_and_does_not_push_out_another() {
        let logs = Logs::default();
        logs.say("first");
        for number in 0..100_000 {
            logs.push("noisy", format!("line {number}").into_bytes());
        }
        assert_eq!(texts(&logs, INIT), ["first"]);
        assert!(logs.lock().rings["noisy"].size <= SOURCE_LIMIT);
        assert_eq!(logs.last("noisy", 1), ["line 99999"]);
    }

    #[test]
    fn all_sources_come_in_the_order_of_their_lines() {
        let logs = Logs::default();
        logs.push("b", b"1".to_vec());
        logs.push("a", b"2".to_vec());
        logs.push("b", b"3".to_vec());
        let all: Vec<Vec<u8>> = logs.since("", 0).into_iter().map(|line| line.bytes).collect();
        assert_eq!(all, [b"1", b"2", b"3"]);
        assert_eq!(logs.since("b", 1).len(), 1, "only what is newer");
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_a_new_line() {
        let logs = Logs::default();
        let mut changes = logs.changes();
        logs.say("news");
        changes.changed().await.unwrap();
        assert_eq!(*changes.borrow(), 1);
    }
}
