//! Progress for programs: each report of the builder as one line of JSON, in the form that BuildKit's own clients print
//! (its `client.SolveStatus`): bytes in base64, times as in RFC 3339, what is empty left out.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bollard_buildkit_proto::pb;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use super::Display;
use super::graph::Graph;
use crate::builder::solve::Observer;

/// Prints to any writer; a writer that fails is not a reason to fail the build.
#[derive(Debug)]
pub struct RawJson<W> {
    out: W,
    graph: Graph,
}

impl<W: Write> RawJson<W> {
    pub fn new(out: W) -> Self {
        Self { out, graph: Graph::default() }
    }
}

impl<W: Write> Observer for RawJson<W> {
    fn update(&mut self, status: &StatusResponse) {
        self.graph.update(status);
        let _ = writeln!(self.out, "{}", report(status));
        let _ = self.out.flush();
    }

    fn note(&mut self, _: &str) {}

    fn end(&mut self) {}
}

impl<W: Write> Display for RawJson<W> {
    fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// One report.
pub(crate) fn report(status: &StatusResponse) -> Value {
    object([
        ("vertexes", all(&status.vertexes, vertex)),
        ("statuses", all(&status.statuses, transfer)),
        ("logs", all(&status.logs, log)),
        ("warnings", all(&status.warnings, warning)),
    ])
}

fn all<T>(values: &[T], of: impl Fn(&T) -> Value) -> Value {
    values.iter().map(of).collect()
}

/// Without what is empty.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    with([], fields)
}

/// With the first of these in any case.
fn with<const M: usize, const N: usize>(always: [(&str, Value); M], fields: [(&str, Value); N]) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(values) => values.is_empty(),
        Value::Bool(true) | Value::Object(_) => false,
    };
    let kept = fields.into_iter().filter(|(_, value)| !is_empty(value));
    let all = always.into_iter().chain(kept);
    Value::Object(all.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn time(time: Option<Timestamp>) -> Value {
    let known = time.and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    known.map_or(Value::Null, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
}

fn vertex(vertex: &Vertex) -> Value {
    let group = vertex.progress_group.as_ref().map_or(Value::Null, |group| {
        object([("id", json!(group.id)), ("name", json!(group.name)), ("weak", json!(group.weak))])
    });
    object([
        ("digest", json!(vertex.digest)),
        ("inputs", json!(vertex.inputs)),
        ("name", json!(vertex.name)),
        ("started", time(vertex.started)),
        ("completed", time(vertex.completed)),
        ("cached", json!(vertex.cached)),
        ("error", json!(vertex.error)),
        ("progressGroup", group),
    ])
}

fn transfer(status: &VertexStatus) -> Value {
    with(
        [("id", json!(status.id)), ("current", json!(status.current))],
        [
            ("vertex", json!(status.vertex)),
            ("name", json!(status.name)),
            ("total", json!(status.total)),
            ("timestamp", time(status.timestamp)),
            ("started", time(status.started)),
            ("completed", time(status.completed)),
        ],
    )
}

fn log(log: &VertexLog) -> Value {
    with(
        [("data", STANDARD.encode(&log.msg).into())],
        [("vertex", json!(log.vertex)), ("stream", json!(log.stream)), ("timestamp", time(log.timestamp))],
    )
}

pub(super) fn warning(warning: &VertexWarning) -> Value {
    object([
        ("vertex", json!(warning.vertex)),
        ("level", json!(warning.level)),
        ("short", STANDARD.encode(&warning.short).into()),
        ("detail", all(&warning.detail, |detail| STANDARD.encode(detail).into())),
        ("url", json!(warning.url)),
        ("sourceInfo", warning.info.as_ref().map_or(Value::Null, source)),
        ("range", all(&warning.ranges, range)),
    ])
}

fn source(source: &pb::SourceInfo) -> Value {
    object([
        ("filename", json!(source.filename)),
        ("data", STANDARD.encode(&source.data).into()),
        ("language", json!(source.language)),
    ])
}

fn range(range: &pb::Range) -> Value {
    let position = |position: &Option<pb::Position>| {
        position
            .as_ref()
            .map_or(Value::Null, |at| object([("line", json!(at.line)), ("character", json!(at.character))]))
    };
    object([("start", position(&range.start)), ("end", position(&range.end))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_in_the_form_of_buildkits_clients() {
        let at = |nanos| Some(Timestamp { seconds: 1_700_000_000, nanos });
        let status = StatusResponse {
            vertexes: vec![Vertex {
                digest: "sha256:1".to_owned(),
                name: "\u{1b}[31m".to_owned(),
                started: at(500_000_000),
                cached: true,
                ..Vertex::default()
            }],
            statuses: vec![VertexStatus {
                id: "t".to_owned(),
                vertex: "sha256:1".to_owned(),
                ..Default::default()
            }],
            logs: vec![VertexLog {
                msg: b"hi\n".to_vec(),
                stream: 1,
                timestamp: at(0),
                ..VertexLog::default()
            }],
            warnings: vec![VertexWarning {
                short: b"w".to_vec(),
                ranges: vec![pb::Range { start: Some(pb::Position { line: 3, character: 0 }), end: None }],
                ..VertexWarning::default()
            }],
        };
        let mut out = RawJson::new(Vec::new());
        out.update(&status);
        let text = String::from_utf8(out.out).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\u{1b}'), "nothing that steers a terminal: {text}");
        let expected = json!({
            "vertexes": [
                {"digest": "sha256:1", "name": "\u{1b}[31m", "started": "2023-11-14T22:13:20.500Z", "cached": true}
            ],
            "statuses": [{"id": "t", "vertex": "sha256:1", "current": 0}],
            "logs": [{"data": "aGkK", "stream": 1, "timestamp": "2023-11-14T22:13:20Z"}],
            "warnings": [{"short": "dw==", "range": [{"start": {"line": 3}}]}],
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert_eq!(report(&StatusResponse::default()), json!({}));
    }
}
