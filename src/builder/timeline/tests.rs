use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexStatus};

use super::*;
use crate::builder::platform::Known;

fn at(milliseconds: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(milliseconds % 1000 * 1_000_000).unwrap();
    Some(Timestamp { seconds: 1_000_000 + milliseconds / 1000, nanos })
}

fn vertex(name: &str, from: i64, until: i64) -> Vertex {
    let (started, completed) = (at(from), at(until));
    Vertex { digest: name.to_owned(), name: name.to_owned(), started, completed, ..Vertex::default() }
}

fn timeline(updates: &[StatusResponse]) -> Timeline {
    let mut graph = Graph::default();
    updates.iter().for_each(|update| graph.update(update));
    let arm64 = Known {
        platform: "linux/arm64".parse().unwrap(),
        broken: None,
        emulator: Some("qemu-aarch64 10".to_owned()),
    };
    Timeline::of("x", &graph, &Platforms { asked: Vec::new(), known: vec![arm64], ..Platforms::default() })
}

#[test]
fn steps_are_told_by_what_their_time_went_to() {
    let vertexes = vec![
        vertex("[internal] load build definition from Dockerfile", 0, 100),
        vertex("[internal] load build context", 100, 300),
        vertex("[linux/arm64 build 2/3] RUN make", 300, 2300),
        vertex("[linux/amd64 build 2/3] RUN make", 300, 800),
        vertex("[linux/arm64 build 3/3] COPY a /", 2300, 2400),
        Vertex { cached: true, ..vertex("[linux/amd64->arm64 tools 1/1] RUN x", 300, 300) },
        Vertex { error: "exit code: 1".to_owned(), ..vertex("[2/3] RUN false", 300, 400) },
        vertex("exporting to image", 2400, 3000),
    ];
    let status = VertexStatus {
        id: "transferring context:".to_owned(),
        vertex: "[internal] load build context".to_owned(),
        current: 77,
        started: at(150),
        completed: at(250),
        ..VertexStatus::default()
    };
    let timeline =
        timeline(&[StatusResponse { vertexes, statuses: vec![status], ..StatusResponse::default() }]);
    let found: Vec<_> = timeline.steps.iter().map(|row| (row.kind, row.platform.as_deref())).collect();
    assert_eq!(
        found,
        [
            (Kind::Internal, None),
            (Kind::Transfer, None),
            (Kind::Emulated, Some("linux/arm64")),
            (Kind::Native, Some("linux/amd64")),
            (Kind::Native, Some("linux/arm64")),
            (Kind::Cached, Some("linux/amd64->arm64")),
            (Kind::Failed, None),
            (Kind::Export, None),
        ]
    );
    assert_eq!(timeline.took_ms, 3000);
    let emulated = &timeline.steps[2];
    assert_eq!((emulated.started_ms, emulated.took_ms), (300, 2000));
    assert_eq!(emulated.emulator.as_deref(), Some("qemu-aarch64 10"));
    let moved = &timeline.steps[1].transfers[0];
    assert_eq!((moved.started_ms, moved.took_ms, moved.amount), (150, 100, 77));
    assert_eq!(timeline.sum(Kind::Native), (2, 600));
    let groups = timeline.by_platform();
    let groups: Vec<_> = groups.into_iter().map(|(platform, rows)| (platform, rows.len())).collect();
    let wanted =
        [(None, 4), (Some("linux/amd64"), 1), (Some("linux/amd64->arm64"), 1), (Some("linux/arm64"), 2)];
    assert_eq!(groups, wanted);
}

#[test]
fn steps_of_several_nodes_have_their_platforms_too() {
    let vertexes = vec![
        vertex("[near internal] load build context", 0, 1),
        vertex("[near linux/amd64 2/3] RUN make", 1, 2),
        vertex("[far linux/arm64 build 2/3] RUN make", 1, 2),
        vertex("[far] exporting to image", 2, 3),
    ];
    let timeline = timeline(&[StatusResponse { vertexes, ..StatusResponse::default() }]);
    let found: Vec<_> = timeline.steps.iter().map(|row| (row.kind, row.platform.as_deref())).collect();
    let wanted = [
        (Kind::Internal, None),
        (Kind::Native, Some("linux/amd64")),
        (Kind::Emulated, Some("linux/arm64")),
        (Kind::Export, None),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_step_that_is_started_anew_began_the_first_time() {
    let update = |vertex| StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
    let timeline = timeline(&[update(vertex("a", 0, 10)), update(vertex("a", 500, 700))]);
    assert_eq!((timeline.steps[0].started_ms, timeline.steps[0].took_ms), (0, 700));
    let nothing = Timeline::of("x", &Graph::default(), &Platforms::default());
    assert_eq!((nothing.took_ms, nothing.steps.len()), (0, 0));
    assert!(html(&nothing).contains("0 ms in all"));
}
