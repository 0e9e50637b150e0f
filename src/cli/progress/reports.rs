//! Progress for programs: what BuildKit's own clients print with `--progress rawjson`, a step for each stage.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};
use images::progress::{Event, Progress};
use sha2::{Digest, Sha256};

use crate::builder::Observer;
use crate::builder::progress::RawJson;

/// One line of JSON for each event.
#[derive(Debug)]
pub(super) struct Reports<W>(Mutex<Running<W>>);

#[derive(Debug)]
struct Running<W> {
    out: RawJson<W>,
    /// When a stage began, and how much of it there is.
    stages: HashMap<String, (Timestamp, i64)>,
}

impl<W: Write> Reports<W> {
    pub(super) fn new(out: W) -> Self {
        Self(Mutex::new(Running { out: RawJson::new(out), stages: HashMap::new() }))
    }
}

impl<W: Write + Send> Progress for Reports<W> {
    fn event(&self, event: &Event<'_>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = running.report(event, now());
        running.out.update(&report);
    }
}

impl<W> Running<W> {
    fn report(&mut self, event: &Event<'_>, now: Timestamp) -> StatusResponse {
        let (Event::Started { stage, .. }
        | Event::Advanced { stage, .. }
        | Event::Said { stage, .. }
        | Event::Ended { stage, .. }) = *event;
        let vertex = format!("sha256:{:x}", Sha256::digest(stage));
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        if let Event::Started { total, .. } = event {
            self.stages.insert(stage.to_owned(), (now, total.map_or(0, number)));
        }
        let (started, total) = self.stages.get(stage).copied().unwrap_or((now, 0));
        let mut report = StatusResponse::default();
        match event {
            Event::Started { .. } | Event::Ended { .. } => report.vertexes.push(Vertex {
                digest: vertex,
                name: stage.to_owned(),
                started: Some(started),
                completed: matches!(event, Event::Ended { .. }).then_some(now),
                ..Vertex::default()
            }),
            Event::Advanced { done, .. } => report.statuses.push(VertexStatus {
                id: stage.to_owned(),
                vertex,
                current: number(*done),
                total,
                timestamp: Some(now),
                started: Some(started),
                ..VertexStatus::default()
            }),
            Event::Said { line, .. } => report.logs.push(VertexLog {
                vertex,
                timestamp: Some(now),
                stream: 1,
                msg: format!("{line}\n").into_bytes(),
            }),
        }
        report
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use images::progress::Unit;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_stage_is_a_step() {
        let mut lines = Vec::new();
        let reports = Reports::new(&mut lines);
        let stage = "join a";
        reports.event(&Event::Started { stage, total: Some(3), unit: Unit::Files });
        reports.event(&Event::Advanced { stage, done: 2 });
        reports.event(&Event::Said { stage, line: "x" });
        reports.event(&Event::Ended { stage, took: Duration::from_secs(1) });
        drop(reports);
        let lines = String::from_utf8(lines).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let step = &lines[0]["vertexes"][0];
        assert_eq!((&step["name"], step["completed"].is_null()), (&stage.into(), true));
        let counted = &lines[1]["statuses"][0];
        assert_eq!((&counted["current"], &counted["total"]), (&2.into(), &3.into()));
        assert_eq!(counted["vertex"], step["digest"]);
        assert_eq!(lines[2]["logs"][0]["data"], "eAo=");
        let ended = &lines[3]["vertexes"][0];
        assert_eq!((&ended["started"], ended["completed"].is_string()), (&step["started"], true));
    }
}
