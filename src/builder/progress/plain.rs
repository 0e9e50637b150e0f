//! Progress as lines that stay, in the form that BuildKit's users know and scripts search: `#5 CACHED`,
//! `#5 0.257 text`, `#5 DONE 0.3s`.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, VertexLog, VertexStatus};

use super::graph::{Graph, elapsed};
use super::{Display, transfer};
use crate::builder::solve::Observer;

/// A transfer under way is mentioned this often.
const EVERY: Duration = Duration::from_secs(5);

/// Transfers that are followed: a builder may not fill this host's memory.
const TRANSFERS: usize = 1 << 14;

/// Prints to any writer; a writer that fails is not a reason to fail the build.
#[derive(Debug)]
pub struct Plain<W> {
    out: W,
    graph: Graph,
    /// The step of the last line.
    current: Option<usize>,
    /// What each transfer last said, and when by the daemon's clock.
    transfers: HashMap<(String, String), Transfer>,
    /// Steps that have ended, unless the next update starts them anew, as the daemon does while it looks into its
    /// cache.
    ending: Vec<String>,
}

#[derive(Debug, Default)]
struct Transfer {
    said: Duration,
    over: bool,
}

impl<W: Write> Plain<W> {
    pub fn new(out: W) -> Self {
        Self { out, graph: Graph::default(), current: None, transfers: HashMap::new(), ending: Vec::new() }
    }

    fn line(&mut self, number: usize, name: &str, text: &str) {
        if self.current != Some(number) {
            let _ = writeln!(self.out, "\n#{number} {name}");
            self.current = Some(number);
        }
        if !text.is_empty() {
            let _ = writeln!(self.out, "#{number} {text}");
        }
    }

    /// Says how a step ended, if it has not been started anew.
    fn step_end(&mut self, digest: &str) {
        let Some(step) = self.graph.step(digest) else { return };
        let Some(completed) = step.completed.filter(|_| !step.told) else { return };
        step.told = true;
        let end = if step.is_cancelled() {
            "CANCELED".to_owned()
        } else if !step.error.is_empty() {
            format!("ERROR: {}", step.error)
        } else if step.cached {
            "CACHED".to_owned()
        } else {
            format!("DONE {:.1}s", step.seconds(Some(completed)))
        };
        let (number, name) = (step.number, step.name.clone());
        let rest = self.graph.finish_line(digest);
        for text in rest.into_iter().chain([end]) {
            self.line(number, &name, &text);
        }
    }

    /// What steps transfer and print, as far as they are `wanted`.
    fn output(&mut self, status: &StatusResponse, wanted: impl Fn(&str) -> bool) {
        for transfer in status.statuses.iter().filter(|transfer| wanted(&transfer.vertex)) {
            self.status(transfer);
        }
        for log in status.logs.iter().filter(|log| wanted(&log.vertex)) {
            self.log(log);
        }
    }

    fn log(&mut self, log: &VertexLog) {
        let lines = self.graph.log(&log.vertex, &log.msg);
        let Some(step) = self.graph.step(&log.vertex) else { return };
        let (number, name, seconds) = (step.number, step.name.clone(), step.seconds(log.timestamp));
        for line in lines {
            self.line(number, &name, &format!("{seconds:.3} {line}"));
        }
    }

    /// A transfer (of the context, of a layer) is mentioned at its end, and now and then before.
    fn status(&mut self, status: &VertexStatus) {
        let key = (status.vertex.clone(), status.id.clone());
        let is_new = !self.transfers.contains_key(&key);
        if is_new
            && (self.transfers.len() >= TRANSFERS
                || status.id.len() > transfer::ID
                || self.graph.step(&status.vertex).is_none())
        {
            return;
        }
        let since = elapsed(status.started, status.timestamp);
        let transfer = self.transfers.entry(key).or_default();
        let over = status.completed.is_some();
        let due = since.saturating_sub(transfer.said) >= EVERY;
        if transfer.over || !(over || due) {
            return;
        }
        (transfer.said, transfer.over) = (since, over);
        let Some(step) = self.graph.step(&status.vertex) else { return };
        let (number, name) = (step.number, step.name.clone());
        let mut text = transfer::amount(status);
        let took = elapsed(status.started, status.completed.or(status.timestamp)).as_secs_f64();
        if took >= 0.05 {
            text.push_str(&format!(" {took:.1}s"));
        }
        if over {
            text.push_str(" done");
        }
        self.line(number, &name, &text);
    }
}

impl<W: Write> Observer for Plain<W> {
    fn update(&mut self, status: &StatusResponse) {
        let mut starting = Vec::new();
        for vertex in &status.vertexes {
            let was_numbered = self.graph.step(&vertex.digest).is_some_and(|step| step.number != 0);
            let Some(step) = self.graph.vertex(vertex) else { continue };
            if step.number != 0 && !was_numbered {
                starting.push((step.number, step.name.clone()));
            }
        }
        // What ended before has its last words first.
        let ending = std::mem::take(&mut self.ending);
        self.output(status, |digest| ending.iter().any(|ended| ended == digest));
        for digest in &ending {
            self.step_end(digest);
        }
        for (number, name) in starting {
            self.line(number, &name, "");
        }
        self.output(status, |digest| !ending.iter().any(|ended| ended == digest));
        let ended = status.vertexes.iter().filter(|vertex| vertex.completed.is_some());
        self.ending = ended.map(|vertex| vertex.digest.clone()).collect();
        self.graph.transfers(status);
        self.graph.warn(status);
        let _ = self.out.flush();
    }

    fn note(&mut self, text: &str) {
        let _ = writeln!(self.out, "note: {text}");
    }

    fn end(&mut self) {
        for digest in std::mem::take(&mut self.ending) {
            self.step_end(&digest);
        }
        let _ = writeln!(self.out);
        let _ = write!(self.out, "{}", self.graph.warned());
        let _ = self.out.flush();
    }
}

impl<W: Write> Display for Plain<W> {
    fn graph(&self) -> &Graph {
        &self.graph
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Timestamp;

    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    use super::*;

    fn at(milliseconds: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds: i64::from(milliseconds / 1000), nanos: milliseconds % 1000 * 1_000_000 })
    }

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex { digest: digest.to_owned(), name: name.to_owned(), started: at(1000), ..Vertex::default() }
    }

    fn log(digest: &str, milliseconds: i32, text: &str) -> VertexLog {
        VertexLog {
            vertex: digest.to_owned(),
            timestamp: at(milliseconds),
            msg: text.into(),
            ..VertexLog::default()
        }
    }

    fn printed(updates: &[StatusResponse]) -> String {
        let mut plain = Plain::new(Vec::new());
        for update in updates {
            plain.update(update);
        }
        plain.end();
        String::from_utf8(plain.out).unwrap()
    }

    #[test]
    fn steps_lines_and_ends() {
        let done = |name: &str| Vertex { completed: at(1300), ..vertex(name, "") };
        let text = printed(&[
            StatusResponse {
                vertexes: vec![vertex("a", "RUN a"), vertex("b", "RUN b")],
                ..Default::default()
            },
            StatusResponse {
                logs: vec![log("a", 1257, "hello\n"), log("b", 1258, "un")],
                ..Default::default()
            },
            StatusResponse {
                vertexes: vec![done("a")],
                logs: vec![log("b", 1259, "finished")],
                ..Default::default()
            },
            StatusResponse { vertexes: vec![done("b")], ..Default::default() },
            StatusResponse {
                vertexes: vec![Vertex { cached: true, name: "c".to_owned(), ..done("c") }, done("b")],
                ..Default::default()
            },
        ]);
        let wanted = "\n#1 RUN a\n\n#2 RUN b\n\n#1 RUN a\n#1 0.257 hello\n".to_owned()
            + "#1 DONE 0.3s\n\n#2 RUN b\n#2 unfinished\n#2 DONE 0.3s\n\n#3 c\n#3 CACHED\n\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_step_that_is_started_anew_has_not_ended() {
        let done = |cached| Vertex { completed: at(1300), cached, ..vertex("a", "a") };
        let update = |vertex| StatusResponse { vertexes: vec![vertex], ..Default::default() };
        let text =
            printed(&[update(done(false)), update(vertex("a", "a")), update(done(true)), update(done(true))]);
        assert_eq!(text, "\n#1 a\n#1 CACHED\n\n");
    }

    #[test]
    fn errors_and_what_they_cancel() {
        let failed = |name: &str, error: &str| Vertex {
            completed: at(1300),
            error: error.to_owned(),
            ..vertex(name, name)
        };
        let text = printed(&[StatusResponse {
            vertexes: vec![failed("a", "exit code: 1"), failed("b", "context canceled")],
            ..Default::default()
        }]);
        assert!(text.contains("#1 ERROR: exit code: 1\n") && text.contains("#2 CANCELED\n"), "{text}");
    }

    #[test]
    fn transfers_are_told_once_they_are_over() {
        let transfer = |current, completed| VertexStatus {
            id: "transferring context:".to_owned(),
            vertex: "a".to_owned(),
            current,
            started: at(1000),
            timestamp: at(1200),
            completed,
            ..VertexStatus::default()
        };
        let update = |status| StatusResponse { statuses: vec![status], ..Default::default() };
        let text = printed(&[
            StatusResponse { vertexes: vec![vertex("a", "load")], ..Default::default() },
            update(transfer(10, None)),
            update(transfer(2_345, at(1200))),
            update(transfer(2_345, at(1200))),
        ]);
        assert_eq!(text, "\n#1 load\n#1 transferring context: 2.35kB 0.2s done\n\n");
    }
}
