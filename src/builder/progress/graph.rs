//! The steps of a build: numbered in the order in which they start, with the last lines of each.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};

use super::room::Room;
use super::transfer::{self, Transfer};
use super::warning::Warnings;
use crate::builder::failure::{self, Failure};
use crate::builder::platform::Platforms;
use crate::printable::printable;

/// Steps kept of a build, and bytes kept of what names one or ends it; of all of them together, see [`Room`].
const STEPS: usize = 1 << 16;
const DIGEST: usize = 512;
const TEXT: usize = 64 * 1024;
/// Lines kept of a step, and bytes kept of a line: what a report of a failure shows.
const LINES: usize = 20;
const LINE: usize = 4096;
/// Transfers kept of a step: an image of more layers is rare, and nobody would read them.
const TRANSFERS: usize = 200;

/// One step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) digest: String,
    /// Given when it starts; 0 before.
    pub(crate) number: usize,
    pub(crate) name: String,
    /// When it started first: one that is looked up in the cache starts anew.
    pub(crate) began: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) completed: Option<Timestamp>,
    pub(crate) cached: bool,
    pub(crate) error: String,
    /// Its end has been told.
    pub(crate) told: bool,
    /// When we heard of its start.
    seen: Option<Instant>,
    transfers: Vec<Transfer>,
    last_lines: VecDeque<String>,
    /// The end of the log so far that is no whole line yet.
    pub(crate) unfinished: Vec<u8>,
}

/// All steps so far.
#[derive(Debug, Default)]
pub struct Graph {
    steps: HashMap<String, Step>,
    started: usize,
    warnings: Warnings,
    room: Room,
}

impl Graph {
    pub(crate) fn update(&mut self, status: &StatusResponse) {
        for vertex in &status.vertexes {
            self.vertex(vertex);
        }
        self.transfers(status);
        for log in &status.logs {
            self.log(&log.vertex, &log.msg);
        }
        self.warn(status);
    }

    pub(crate) fn warn(&mut self, status: &StatusResponse) {
        status.warnings.iter().for_each(|warning| self.warnings.add(warning));
    }

    /// What is to be said of warnings at the end.
    pub(super) fn warned(&self) -> &Warnings {
        &self.warnings
    }

    /// The warnings, as BuildKit's own clients write them.
    pub fn warnings(&self) -> Vec<serde_json::Value> {
        self.warnings.json()
    }

    /// The steps that have started, in that order.
    pub(crate) fn in_order(&self) -> Vec<&Step> {
        let mut started: Vec<_> = self.steps.values().filter(|step| step.number > 0).collect();
        started.sort_by_key(|step| step.number);
        started
    }

    /// How many steps have ended, and how many there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.steps.values().filter(|step| step.completed.is_some()).count(), self.steps.len())
    }

    pub(super) fn transfers(&mut self, status: &StatusResponse) {
        status.statuses.iter().for_each(|transfer| self.transfer(transfer));
    }

    fn transfer(&mut self, status: &VertexStatus) {
        let Some(step) = self.steps.get_mut(&status.vertex) else { return };
        if let Some(transfer) = step.transfers.iter_mut().find(|transfer| transfer.is(&status.id)) {
            transfer.update(status);
        } else if step.transfers.len() < TRANSFERS
            && status.id.len() <= transfer::ID
            && self.room.take(transfer::SIZE)
        {
            step.transfers.push(Transfer::new(status.clone()));
        }
    }

    /// Takes one update in, and returns the step as it is now, unless there are too many.
    pub(crate) fn vertex(&mut self, vertex: &Vertex) -> Option<&mut Step> {
        let is_known = self.steps.contains_key(&vertex.digest);
        if !is_known
            && (self.steps.len() >= STEPS
                || vertex.digest.len() > DIGEST
                || !self.room.take(vertex.digest.len().saturating_mul(2)))
        {
            return None;
        }
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if step.number == 0 && vertex.started.is_some() {
            self.started = self.started.saturating_add(1);
            step.number = self.started;
            step.seen = Some(Instant::now());
            step.began = vertex.started;
            step.digest.clone_from(&vertex.digest);
        }
        if !vertex.name.is_empty() {
            self.room.replace(&mut step.name, printable(beginning(&vertex.name)));
        }
        step.started = vertex.started.or(step.started);
        step.completed = vertex.completed;
        step.cached |= vertex.cached;
        // On one line, wherever that is shown.
        let error = printable(&beginning(&vertex.error).lines().collect::<Vec<_>>().join(" "));
        self.room.replace(&mut step.error, error);
        Some(step)
    }

    pub(crate) fn step(&mut self, digest: &str) -> Option<&mut Step> {
        self.steps.get_mut(digest)
    }

    /// Takes a piece of a step's output in, and returns the lines that it completes.
    pub(crate) fn log(&mut self, digest: &str, message: &[u8]) -> Vec<String> {
        let Some(step) = self.steps.get_mut(digest) else { return Vec::new() };
        let mut lines = Vec::new();
        for piece in message.split_inclusive(|byte| *byte == b'\n') {
            // A line without end is cut: it is for reading.
            let length = LINE.saturating_sub(step.unfinished.len()).min(piece.len());
            if self.room.take(length) {
                step.unfinished.extend(piece.iter().copied().take(length));
            }
            if piece.ends_with(b"\n") {
                lines.extend(step.finish_line(&mut self.room));
            }
        }
        lines
    }

    /// The line of a step so far, if there is any.
    pub(crate) fn finish_line(&mut self, digest: &str) -> Option<String> {
        self.steps.get_mut(digest)?.finish_line(&mut self.room)
    }

    /// What a reader needs to see of a failure: the step, its last words, its place in the Dockerfile, and what emulated it.
    pub fn report(&self, failure: &Failure, platforms: &Platforms) -> String {
        let mut report = String::new();
        let by_digest = failure.vertex.as_ref().and_then(|digest| self.steps.get(digest));
        let failed = by_digest
            .or_else(|| self.steps.values().find(|step| !step.error.is_empty() && !step.is_cancelled()));
        if let Some(step) = failed {
            report.push_str(&format!("------\n > {}:\n", step.name));
            for line in &step.last_lines {
                report.push_str(line);
                report.push('\n');
            }
            report.push_str("------\n");
        }
        if let Some(excerpt) = &failure.excerpt {
            report.push_str(excerpt);
            report.push('\n');
        }
        if let Some(step) = failed {
            let lines = step.last_lines.iter().map(String::as_str).chain([step.error.as_str()]);
            if let Some(said) = failure::explained(&step.name, &lines, platforms) {
                report.push_str(&format!("{said}\n"));
            }
        }
        report
    }
}

impl Step {
    /// The line so far, if there is any; made safe for a terminal.
    fn finish_line(&mut self, room: &mut Room) -> Option<String> {
        let bytes = std::mem::take(&mut self.unfinished);
        room.give_back(bytes.len());
        if bytes.is_empty() {
            return None;
        }
        let line = readable(&bytes);
        if self.last_lines.len() >= LINES {
            let oldest = self.last_lines.pop_front().unwrap_or_default();
            room.give_back(oldest.len());
        }
        self.last_lines.push_back(room.keep(line.clone()));
        Some(line)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.error.ends_with("context canceled")
    }

    pub(in crate::builder) fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// The last lines that it printed, `count` at most.
    pub(crate) fn last_lines(&self, count: usize) -> impl Iterator<Item = &str> {
        let skipped = self.last_lines.len().saturating_sub(count);
        self.last_lines.iter().skip(skipped).map(String::as_str)
    }

    /// By the daemon's clock when it has ended, by ours before.
    pub(crate) fn runs_for(&self) -> Duration {
        match self.completed {
            Some(completed) => elapsed(self.started, Some(completed)),
            None => self.seen.map_or(Duration::ZERO, |seen| seen.elapsed()),
        }
    }

    /// From the step's start to `until`, in seconds.
    pub(crate) fn seconds(&self, until: Option<Timestamp>) -> f64 {
        elapsed(self.started, until).as_secs_f64()
    }
}

/// As much of a text as is kept.
fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT)).unwrap_or_default()
}

/// The last of what carriage returns overwrite.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let visible = text.rsplit('\r').next().unwrap_or_default();
    printable(visible)
}

pub(crate) fn elapsed(from: Option<Timestamp>, until: Option<Timestamp>) -> Duration {
    let nanoseconds = |time: Timestamp| {
        i128::from(time.seconds).saturating_mul(1_000_000_000).saturating_add(time.nanos.into())
    };
    match (from, until) {
        (Some(from), Some(until)) => {
            let difference = nanoseconds(until).saturating_sub(nanoseconds(from)).max(0);
            Duration::from_nanos(u64::try_from(difference).unwrap_or(u64::MAX))
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::platform::Known;

    fn vertex(digest: &str, name: &str) -> Vertex {
        let started = Some(Timestamp::default());
        Vertex { digest: digest.to_owned(), name: name.to_owned(), started, ..Vertex::default() }
    }

    #[test]
    fn a_builder_does_not_fill_the_memory() {
        let mut graph = Graph::default();
        assert!(graph.vertex(&vertex(&"d".repeat(DIGEST + 1), "x")).is_none());
        let long = "ä".repeat(TEXT);
        let step = graph.vertex(&Vertex { error: long.clone(), ..vertex("a", &long) }).unwrap();
        assert_eq!((step.name.len(), step.error.len()), (TEXT, TEXT));
        for number in 0..=STEPS {
            graph.vertex(&vertex(&number.to_string(), "x"));
        }
        assert_eq!(graph.steps.len(), STEPS);
        assert!(graph.vertex(&vertex("a", "x")).is_some(), "what is known goes on");
    }

    #[test]
    fn nor_do_all_steps_together() {
        let mut graph = Graph::default();
        let long = "x".repeat(TEXT);
        for number in 0..2000 {
            let digest = number.to_string();
            graph.vertex(&Vertex { error: long.clone(), ..vertex(&digest, &long) });
            for line in 0..LINES {
                graph.log(&digest, format!("{line:>LINE$}\n").as_bytes());
            }
            let transfer =
                |id: usize| VertexStatus { id: id.to_string(), vertex: digest.clone(), ..Default::default() };
            graph.transfers(&StatusResponse {
                statuses: (0..TRANSFERS).map(transfer).collect(),
                ..Default::default()
            });
        }
        let bytes = |step: &Step| {
            let lines: usize = step.last_lines.iter().map(String::len).sum();
            step.name.len() + step.error.len() + lines + step.transfers.len() * transfer::SIZE
        };
        let all: usize = graph.steps.values().map(bytes).sum();
        assert!((60 << 20..=64 << 20).contains(&all), "{all} bytes");
        // What ends makes room for what comes.
        graph.vertex(&Vertex { error: String::new(), ..vertex("0", "x") });
        assert_eq!(graph.vertex(&vertex("1999", "later")).unwrap().name, "later");
    }

    #[test]
    fn steps_are_numbered_once_when_they_start() {
        let mut graph = Graph::default();
        assert_eq!(graph.vertex(&Vertex { started: None, ..vertex("b", "second") }).unwrap().number, 0);
        assert_eq!(graph.vertex(&vertex("a", "first")).unwrap().number, 1);
        assert_eq!(graph.vertex(&vertex("b", "second")).unwrap().number, 2);
        assert_eq!(graph.vertex(&vertex("a", "first")).unwrap().number, 1);
    }

    #[test]
    fn lines_come_whole_and_readable() {
        let mut graph = Graph::default();
        graph.vertex(&vertex("a", "x"));
        assert_eq!(graph.log("a", b"one\ntw"), ["one"]);
        assert_eq!(graph.log("a", b"o\r\n10%\r20%\n\x1b[31mred\xff\n"), ["two", "20%", "red\u{fffd}"]);
        assert_eq!(graph.log("unknown", b"x\n"), Vec::<String>::new());
    }

    #[test]
    fn a_flood_of_output_is_not_kept() {
        let mut graph = Graph::default();
        graph.vertex(&vertex("a", "x"));
        for _ in 0..1000 {
            graph.log("a", &[b'x'; 10_000]);
        }
        assert_eq!(graph.steps["a"].unfinished.len(), LINE);
        for number in 0..1000 {
            graph.log("a", format!("{number}\n").as_bytes());
        }
        assert_eq!(graph.steps["a"].last_lines.len(), LINES);
    }

    #[test]
    fn a_report_names_step_lines_place_and_emulator() {
        let mut graph = Graph::default();
        let crashed =
            Vertex { error: "exit code: 139".to_owned(), ..vertex("a", "[linux/arm64 2/2] RUN false") };
        graph.vertex(&crashed).unwrap();
        graph.log("a", b"qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n");
        let failure = Failure {
            message: "exit code: 139".to_owned(),
            vertex: Some("a".to_owned()),
            excerpt: Some("Dockerfile:2".to_owned()),
            hint: None,
        };
        let report = graph.report(&failure, &Platforms::default());
        assert!(report.starts_with("------\n > [linux/arm64 2/2] RUN false:\nqemu: uncaught"), "{report}");
        assert!(report.contains("------\nDockerfile:2\nthe program crashed"), "{report}");
        let arm64 = Known {
            platform: "linux/arm64".parse().unwrap(),
            broken: None,
            emulator: Some("qemu-aarch64 10.0.13".to_owned()),
        };
        let report = graph
            .report(&failure, &Platforms { asked: Vec::new(), known: vec![arm64], ..Platforms::default() });
        assert!(
            report.contains("Dockerfile:2\nqemu-aarch64 10.0.13, which runs linux/arm64 here, crashed"),
            "{report}"
        );
    }

    #[test]
    fn times_that_run_backwards_are_zero() {
        let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
        assert_eq!(elapsed(at(5, 0), at(4, 0)), Duration::ZERO);
        assert_eq!(elapsed(at(4, 900_000_000), at(5, 100_000_000)), Duration::from_millis(200));
        assert_eq!(elapsed(at(i64::MIN, 0), at(i64::MAX, 0)).as_nanos(), u128::from(u64::MAX));
    }
}
