use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{Vertex, VertexLog, VertexStatus};

use super::*;

fn at(milliseconds: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds: i64::from(milliseconds / 1000), nanos: milliseconds % 1000 * 1_000_000 })
}

fn vertex(digest: &str, completed: Option<i32>) -> Vertex {
    let name = format!("RUN {digest}");
    let completed = completed.and_then(at);
    Vertex { digest: digest.to_owned(), name, started: at(1000), completed, ..Vertex::default() }
}

fn log(digest: &str, text: &str) -> VertexLog {
    VertexLog { vertex: digest.to_owned(), msg: text.into(), ..VertexLog::default() }
}

fn vertexes(vertexes: Vec<Vertex>) -> StatusResponse {
    StatusResponse { vertexes, ..StatusResponse::default() }
}

fn tty() -> Tty<Vec<u8>> {
    Tty { size: || (10, 40), log_lines: 2, ..Tty::new(Vec::new()) }
}

/// The lines that a terminal shows after all that was written: only the two sequences that are used are understood.
fn screen(written: &[u8]) -> Vec<String> {
    let text = console::strip_ansi_codes(std::str::from_utf8(written).unwrap()).into_owned();
    let raw = String::from_utf8(written.to_vec()).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for (part, number) in raw.split("\u{1b}[J").zip(0..) {
        let _ = number;
        let up = part.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('A'));
        let (up, frame) = match up.and_then(|(count, rest)| Some((count.parse::<usize>().ok()?, rest))) {
            Some((count, rest)) => (count, rest),
            None => (0, part),
        };
        lines.truncate(lines.len() - up);
        let plain = console::strip_ansi_codes(frame);
        lines.extend(plain.split_terminator('\n').map(str::to_owned));
    }
    assert!(!text.is_empty());
    lines
}

/// Of a line that is as wide as the terminal: what stands before the time, which goes on.
fn untimed(line: &str) -> &str {
    let (text, time) = line.rsplit_once(' ').unwrap();
    assert!(time.ends_with('s') && line.chars().count() == 40, "{line:?}");
    text.trim_end()
}

#[test]
fn a_frame_takes_the_place_of_the_one_before() {
    let mut tty = tty();
    tty.update(&vertexes(vec![vertex("a", None), vertex("b", None)]));
    let moved = VertexStatus {
        id: "moving".to_owned(),
        vertex: "a".to_owned(),
        current: 5,
        total: 10,
        ..Default::default()
    };
    let logs = vec![log("b", "one\n\x1b[31mtwo\nthree\n")];
    tty.drawn = None;
    tty.update(&StatusResponse { statuses: vec![moved], logs, ..Default::default() });
    let lines = screen(&tty.out);
    assert!(lines[0].starts_with("[+] Building 0.") && lines[0].ends_with("s (0/2)"), "{lines:?}");
    let timed = [&lines[1], &lines[2], &lines[3]].map(|line| untimed(line));
    assert_eq!(timed, [" => RUN a", " => => moving 5B / 10B", " => RUN b"]);
    assert_eq!(lines[4..], [" => => # two", " => => # three"]);
    tty.update(&vertexes(vec![vertex("a", Some(1300)), Vertex { cached: true, ..vertex("b", Some(1300)) }]));
    tty.end();
    let lines = screen(&tty.out);
    assert!(lines[0].ends_with("s (2/2) FINISHED"), "{lines:?}");
    assert_eq!(lines[1], " => RUN a                           0.3s");
    assert_eq!(lines[3..], [" => CACHED RUN b                    0.3s"]);
}

#[test]
fn no_line_is_wider_and_no_frame_higher_than_the_terminal() {
    let mut tty = tty();
    let many =
        (0..30).map(|number| vertex(&format!("{number} {}", "x".repeat(60)), (number < 20).then_some(1300)));
    tty.update(&vertexes(many.collect()));
    let lines = screen(&tty.out);
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
    let last = untimed(&lines[8]);
    assert!(last.starts_with(" => RUN 29 xxx") && last.ends_with('…'), "{lines:?}");
    // All of them stay in the end.
    tty.end();
    assert_eq!(screen(&tty.out).len(), 31);
}

#[test]
fn notes_stay_above_the_frame() {
    let mut tty = tty();
    tty.update(&vertexes(vec![vertex("a", None)]));
    tty.note("look");
    tty.drawn = None;
    tty.tick();
    let lines = screen(&tty.out);
    assert_eq!((lines.len(), lines[0].as_str()), (3, "note: look"), "{lines:?}");
}

#[test]
fn what_failed_is_marked() {
    let mut tty = tty();
    let failed = |digest: &str, error: &str| Vertex { error: error.to_owned(), ..vertex(digest, Some(1300)) };
    tty.update(&vertexes(vec![failed("a", "exit code: 1"), failed("b", "context canceled")]));
    tty.end();
    let lines = screen(&tty.out);
    assert!(
        lines[1].starts_with(" => ERROR RUN a") && lines[2].starts_with(" => CANCELED RUN b"),
        "{lines:?}"
    );
}
