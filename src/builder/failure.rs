//! What is known of a build that failed: the daemon's sentence, and the place in the Dockerfile if it says it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde::Deserialize;
use tonic::Status;

use super::platform::Platforms;
use super::session::UNUSABLE;
use crate::printable::{printable, printable_lines};

/// Lines shown around the ones that failed.
const AROUND: usize = 3;

/// How a registry's refusal arrives here, from itself or from containerd's client of it.
const REFUSALS: [&str; 4] =
    ["401 Unauthorized", "403 Forbidden", "no basic auth credentials", "insufficient_scope"];

/// Why the daemon could not build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The daemon's words, the useful part first.
    pub message: String,
    /// The vertex that failed.
    pub vertex: Option<String>,
    /// The lines of the Dockerfile, drawn, with the failed ones marked.
    pub excerpt: Option<String>,
    /// What the daemon's words mean, where they do not say it.
    pub hint: Option<&'static str>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.hint.map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// BuildKit's `errdefs.Source`, which travels as JSON: where in which file.
#[derive(Debug, Deserialize)]
struct Source {
    info: SourceInfo,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Debug, Deserialize)]
struct SourceInfo {
    #[serde(default)]
    filename: String,
    /// The file, in base64.
    #[serde(default)]
    data: String,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(default)]
    start: Position,
    #[serde(default)]
    end: Position,
}

/// A line, counted from 1; 0 where it is not known.
#[derive(Debug, Default, Deserialize)]
struct Position {
    #[serde(default)]
    line: usize,
}

/// BuildKit's `errdefs.Vertex`: the digest of a step.
#[derive(Debug, Deserialize)]
struct Vertex {
    digest: String,
}

impl Failure {
    pub(crate) fn from_status(status: &Status) -> Self {
        let message = without_uploads(&printable_lines(strip_prefixes(status.message())));
        let mut failure = Self { hint: hint(&message), message, vertex: None, excerpt: None };
        // Details are an extra: what cannot be read of them is left out.
        let details = rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
        for detail in details {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            match name {
                "errdefs.Vertex+json" => {
                    failure.vertex =
                        serde_json::from_slice::<Vertex>(&detail.value).ok().map(|vertex| vertex.digest);
                }
                "errdefs.Source+json" if failure.excerpt.is_none() => {
                    failure.excerpt =
                        serde_json::from_slice::<Source>(&detail.value).ok().and_then(|it| it.excerpt());
                }
                _ => {}
            }
        }
        failure
    }
}

/// Where a registry takes an upload is an address with hundreds of characters that mean something to it alone.
fn without_uploads(text: &str) -> String {
    let word = |word: &str| match word.split_once('?') {
        Some((address, query)) if address.contains("/blobs/uploads/") => {
            let end = query.strip_prefix(query.trim_end_matches(['"', ':']));
            format!("{address}{}", end.unwrap_or_default())
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The daemon wraps what happened into how it got there.
fn strip_prefixes(message: &str) -> &str {
    let mut rest = message;
    for prefix in ["failed to solve: ", "rpc error: code = Unknown desc = "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest
}

/// What is to be said of a step that failed, by its name, its last lines and its error: of a crash under emulation, what
/// crashed and what can be tried; else what emulates it, since that may matter; else what the lines mean.
pub(crate) fn explained<'a>(
    step: &str,
    lines: &(impl Iterator<Item = &'a str> + Clone),
    platforms: &Platforms,
) -> Option<String> {
    let hint = || lines.clone().find_map(hint).or_else(|| lines.clone().find_map(killed)).map(str::to_owned);
    let Some((platform, emulator)) = platforms.emulated(step) else { return hint() };
    if lines.clone().any(is_crash) {
        return Some(format!(
            "{emulator}, which runs {platform} here, crashed, or the program did in a way that it may not on a real {platform}; \
             try to build this stage on the builder's own platform (FROM --platform=$BUILDPLATFORM, and cross-compile), \
             or another version of the program"
        ));
    }
    let more = hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    Some(format!("{emulator} runs {platform} here{more}"))
}

/// How a crash is told: by QEMU itself, and by a shell's exit status (128 and SIGSEGV, SIGILL, SIGBUS, SIGABRT).
fn is_crash(text: &str) -> bool {
    const CRASHES: [&str; 4] = ["exit code: 139", "exit code: 132", "exit code: 135", "exit code: 134"];
    text.contains("uncaught target signal") || CRASHES.iter().any(|crash| text.contains(crash))
}

/// Explains an exit status or a sentence that would puzzle.
pub(crate) fn hint(message: &str) -> Option<&'static str> {
    if is_crash(message) {
        Some("the program crashed; if its platform is emulated, the emulator may not know all that it needs")
    } else if message.contains("exec format error") {
        Some("the builder cannot execute programs of that platform; `mvm status` shows which it can")
    } else if message.contains("granting entitlement") {
        Some("it has to be allowed to the builder itself as well, in its configuration")
    } else if message.contains(UNUSABLE) {
        None
    } else if message.to_ascii_lowercase().contains("no space left on device") {
        // The kernel's words; C's library begins them with a capital letter, Go's does not.
        Some(
            "the builder's disk is full: `mvm prune` takes room back; an instance's is made larger with `mvm down` and `mvm up --disk`",
        )
    } else if REFUSALS.iter().any(|words| message.contains(words)) {
        Some(
            "the registry wants another login than the one in Docker's configuration; `docker login` writes it to ~/.docker/config.json",
        )
    } else {
        registry_trouble(message)
    }
}

/// Only of a step whose lines tell nothing else: what crashed under emulation as a step's first process is killed, too.
fn killed(message: &str) -> Option<&'static str> {
    message.contains("exit code: 137").then_some(
        "it was killed, most likely because memory ran out; give the machine more with `mvm up --memory`",
    )
}

/// What a registry failed with in the end: the builder has asked more than once by then.
fn registry_trouble(message: &str) -> Option<&'static str> {
    const BROKEN: [&str; 4] =
        ["EOF", "connection reset by peer", "broken pipe", "use of closed network connection"];
    const ABSENT: [&str; 2] = ["connection refused", "no such host"];
    const LOOPBACK: [&str; 2] = ["://127.0.0.1:", "://localhost:"];
    let has = |words: &&str| message.contains(*words);
    // "unexpected status from PUT request to ..." of pushes, "unexpected status code ..." of pulls.
    let status = message.split_once("unexpected status ").map_or("", |(_, status)| status);
    if status.contains(": 429 ") {
        Some(
            "the registry is asked too often; try again later, or with a login (`docker login`), which is often allowed more",
        )
    } else if [": 500 ", ": 502 ", ": 503 ", ": 504 "].iter().any(|words| status.contains(words)) {
        Some(
            "the registry has trouble of its own, also when it is asked again; try later: nothing of what was built is lost",
        )
    } else if !message.contains("failed to do request") {
        None
    } else if message.contains("connection refused") && LOOPBACK.iter().any(has) {
        Some(
            "nobody answers there, at the builder's own loopback; an instance reaches those ports of this host's that the command line \
             or a Dockerfile of this host names, or that `mvm up --host-port` opens",
        )
    } else if ABSENT.iter().any(has) {
        Some("nobody answers there; check the registry's name, and that it runs")
    } else if BROKEN.iter().any(has) {
        Some(
            "the connection to the registry broke off, also when it was tried again; try later: nothing of what was built is lost",
        )
    } else {
        None
    }
}

impl Source {
    /// The lines as people know them from BuildKit: numbered, three around, failed ones behind `>>>`.
    fn excerpt(&self) -> Option<String> {
        let first = self.ranges.iter().map(|range| range.start.line).filter(|line| *line > 0).min()?;
        let last = self.ranges.iter().map(|range| range.end.line).max()?.max(first);
        let data = STANDARD.decode(&self.info.data).ok()?;
        let text = String::from_utf8_lossy(&data);
        let shown = first.saturating_sub(AROUND)..=last.saturating_add(AROUND);
        let mut excerpt = format!("{}:{first}\n--------------------\n", self.info.filename);
        for (number, content) in (1_usize..).zip(text.lines()).filter(|(number, _)| shown.contains(number)) {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            excerpt.push_str(&format!("{number:4} | {mark} {}\n", printable(content)));
        }
        excerpt.push_str("--------------------");
        Some(excerpt)
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Any;
    use tonic::Code;

    use super::*;
    use crate::builder::platform::Known;

    fn status(details: Vec<Any>, message: &str) -> Status {
        let details = rpc::Status { code: 2, message: message.to_owned(), details }.encode_to_vec();
        Status::with_details(Code::Unknown, message, details.into())
    }

    #[test]
    fn the_place_in_the_dockerfile_is_drawn() {
        let data = STANDARD.encode("FROM x\n\nRUN a\nRUN b \\\n  c\nRUN d\nRUN e\nRUN f\nRUN g\n");
        let source = serde_json::json!({
            "info": {"filename": "Dockerfile", "data": data, "definition": {}, "language": "Dockerfile"},
            "ranges": [{"start": {"line": 4}, "end": {"line": 5}}],
        });
        let any = |name: &str, value: &serde_json::Value| Any {
            type_url: format!("github.com/moby/buildkit/{name}"),
            value: value.to_string().into_bytes(),
        };
        let vertex = serde_json::json!({"digest": "sha256:1"});
        let details = vec![any("errdefs.Vertex+json", &vertex), any("errdefs.Source+json", &source)];
        let failure = Failure::from_status(&status(details, "failed to solve: it broke"));
        assert_eq!((failure.message.as_str(), failure.vertex.as_deref()), ("it broke", Some("sha256:1")));
        let wanted = "Dockerfile:4\n--------------------\n   1 |     FROM x\n   2 |     \n   3 |     RUN a\n   4 | >>> RUN b \\\n   \
                      5 | >>>   c\n   6 |     RUN d\n   7 |     RUN e\n   8 |     RUN f\n--------------------";
        assert_eq!(failure.excerpt.unwrap(), wanted);
    }

    #[test]
    fn details_that_make_no_sense_are_left_out() {
        let failure =
            Failure::from_status(&Status::with_details(Code::Unknown, "x", vec![0xff, 0xff].into()));
        assert_eq!((failure.vertex, failure.excerpt), (None, None));
        for source in [
            r#"{"info": {"filename": "D", "data": "%"}, "ranges": [{"start": {"line": 1}}]}"#,
            r#"{"info": {"filename": "D"}, "ranges": [{}]}"#,
            r#"{"info": {}, "ranges": []}"#,
        ] {
            assert_eq!(serde_json::from_str::<Source>(source).unwrap().excerpt(), None, "{source}");
        }
        let far = r#"{"info": {"data": "eA=="}, "ranges": [{"start": {"line": 18446744073709551615}}]}"#;
        assert!(
            serde_json::from_str::<Source>(far).unwrap().excerpt().is_some(),
            "no line is shown, and none is sought"
        );
    }

    #[test]
    fn a_crash_names_the_emulator_and_what_to_try() {
        let known = Known {
            platform: "linux/arm64".parse().unwrap(),
            broken: None,
            emulator: Some("qemu-aarch64 10".to_owned()),
        };
        let platforms = Platforms {
            asked: vec!["linux/arm64".parse().unwrap()],
            known: vec![known],
            ..Platforms::default()
        };
        let said = |lines: &[&str], platforms: &Platforms| {
            explained("[2/2] RUN x", &lines.iter().copied(), platforms)
        };
        const SEGV: &str = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped";
        for crash in [&["other", SEGV][..], &["other", "exit code: 132"], &[SEGV, "exit code: 137"]] {
            let said = said(crash, &platforms).unwrap();
            assert!(said.starts_with("qemu-aarch64 10, which runs linux/arm64 here, crashed"), "{said}");
            assert!(said.contains("FROM --platform=$BUILDPLATFORM"), "{said}");
        }
        assert_eq!(said(&["exit code: 1"], &platforms).unwrap(), "qemu-aarch64 10 runs linux/arm64 here");
        let full = said(&["cp: No space left on device"], &platforms).unwrap();
        assert!(
            full.starts_with("qemu-aarch64 10 runs linux/arm64 here; the builder's disk is full"),
            "{full}"
        );
        let killed = said(&["exit code: 137"], &platforms).unwrap();
        assert!(killed.starts_with("qemu-aarch64 10 runs linux/arm64 here; it was killed, "), "{killed}");
        assert_eq!(said(&["exit code: 1"], &Platforms::default()), None);
        for crash in [&["exit code: 139"][..], &[SEGV, "exit code: 137"]] {
            let said = said(crash, &Platforms::default()).unwrap();
            assert!(said.starts_with("the program crashed"), "{said}");
        }
        let killed = said(&["exit code: 137"], &Platforms::default()).unwrap();
        assert!(killed.starts_with("it was killed, most likely because memory ran out"), "{killed}");
    }

    #[test]
    fn puzzling_words_are_explained() {
        let crashed =
            Failure::from_status(&Status::unknown("qemu: uncaught target signal 11 (Segmentation fault)"));
        assert!(
            crashed.to_string().contains("(the program crashed; if its platform is emulated"),
            "{crashed}"
        );
        assert!(hint("exec /bin/sh: exec format error").unwrap().contains("`mvm status` shows which it can"));
        for full in ["dd: error writing '/x': No space left on device", "mkdir /x: no space left on device"] {
            let hint = hint(full).unwrap();
            assert!(hint.starts_with("the builder's disk is full: `mvm prune` takes room back; "), "{hint}");
            assert!(hint.ends_with("is made larger with `mvm down` and `mvm up --disk`"), "{hint}");
        }
        let refused = "failed to push x: unexpected status from HEAD request: 401 Unauthorized";
        assert!(hint(refused).unwrap().contains("`docker login` writes it"));
        assert_eq!(hint(&format!("{UNUSABLE}No space left on device (os error 28)")), None);
        let forbidden = "granting entitlement security.insecure is not allowed by build daemon configuration";
        assert!(hint(forbidden).unwrap().contains("allowed to the builder itself as well"));
        assert_eq!(hint("exit code: 1"), None);
        assert_eq!(hint("exit code: 137"), None, "a crash may have ended so");
        for (message, wanted) in [
            (
                "unexpected status from PUT request to http://h/x: 500 Internal Server Error",
                "trouble of its own",
            ),
            ("unexpected status from POST request to http://h/x: 429 Too Many Requests", "asked too often"),
            (
                "httpReadSeeker: failed open: unexpected status code https://h/x: 429 Too Many Requests - Server message: toomanyrequests: x",
                "asked too often",
            ),
            ("failed to do request: Put \"http://h/x\": EOF", "broke off"),
            (
                "failed to do request: Head \"http://h/x\": dial tcp h: connect: connection refused",
                "check the registry's name",
            ),
            (
                "failed to do request: Head \"https://127.0.0.1:5000/x\": dial tcp 127.0.0.1:5000: connect: connection refused",
                "`mvm up --host-port` opens",
            ),
        ] {
            assert!(hint(message).unwrap().contains(wanted), "{message}");
        }
        for other in
            ["unexpected status from HEAD request to http://h/x: 416 x", "x: EOF", "failed to do request: x"]
        {
            assert_eq!(hint(other), None, "{other}");
        }
    }

    #[test]
    fn addresses_of_uploads_are_short() {
        let long =
            "failed: PUT request to http://h/v2/x/blobs/uploads/1?_state=abc&digest=sha256%3A1: 500 Internal";
        assert_eq!(
            without_uploads(long),
            "failed: PUT request to http://h/v2/x/blobs/uploads/1: 500 Internal"
        );
        let quoted = "Put \"http://h/v2/x/blobs/uploads/1?_state=abc\": EOF";
        assert_eq!(without_uploads(quoted), "Put \"http://h/v2/x/blobs/uploads/1\": EOF");
        let other = "cannot fetch https://h/r.git?branch=x: gone";
        assert_eq!(without_uploads(other), other);
    }
}
