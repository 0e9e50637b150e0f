//! What a job built and how it went, as JSON and as JUnit has it, which CI systems show.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::builder::{Past, PastState};

/// A job that is over.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) command: Vec<String>,
    pub(super) status: u8,
    pub(super) builds: Vec<Past>,
    pub(super) checked: Vec<Checked>,
    /// Builds whose image the builder has not, so that nobody can tell: it went elsewhere, or another has its name.
    pub(super) unchecked: Vec<String>,
    /// Bytes of the cache that the builder began with, if there was one.
    pub(super) restored: Option<u64>,
    pub(super) kept: Kept,
    pub(super) ready_after: Duration,
    pub(super) took: Duration,
}

/// A platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Checked {
    pub(super) image: String,
    pub(super) platform: String,
    /// All its layers are there.
    pub(super) is_whole: bool,
}

/// What became of the cache.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing was to be kept.
    #[default]
    Nothing,
    Bytes(u64),
    Failed(String),
}

/// A line of what went well or not.
struct Case<'a> {
    class: &'static str,
    name: String,
    seconds: f64,
    failure: Option<&'a str>,
}

impl Report {
    /// Writes both files; of one that cannot be written its path.
    pub(super) fn write(&self, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        std::fs::create_dir_all(directory).map_err(failed(directory))?;
        for (name, text) in [("mvm-ci.json", format!("{:#}\n", self.json())), ("mvm-ci.xml", self.junit())] {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(failed(&path))?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let (kept, problem) = match &self.kept {
            Kept::Nothing => (None, None),
            Kept::Bytes(bytes) => (Some(*bytes), None),
            Kept::Failed(why) => (None, Some(why)),
        };
        serde_json::json!({
            "command": self.command,
            "status": self.status,
            "ready_after_ms": milliseconds(self.ready_after),
            "took_ms": milliseconds(self.took),
            "builds": self.builds.iter().map(told).collect::<Vec<_>>(),
            "platforms": self.checked,
            "unchecked": self.unchecked,
            "cache": { "restored_bytes": self.restored, "kept_bytes": kept, "problem": problem },
        })
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let mut cases = vec![Case {
            class: "command",
            name: self.command.join(" "),
            seconds: self.took.saturating_sub(self.ready_after).as_secs_f64(),
            failure: (self.status != 0).then_some("the command failed"),
        }];
        cases.extend(self.builds.iter().rev().map(|past| Case {
            class: "build",
            // A build of no name has only the one by which its builder remembers it.
            name: if past.name.is_empty() { past.id.clone() } else { past.name.clone() },
            seconds: Duration::from_millis(past.took_ms.unwrap_or(0)).as_secs_f64(),
            failure: match past.status {
                PastState::Completed => None,
                PastState::Running | PastState::Canceled => Some("the build was given up"),
                PastState::Error => Some(past.error.as_deref().unwrap_or("the build failed")),
            },
        }));
        cases.extend(self.checked.iter().map(|checked| Case {
            class: "cache",
            name: format!("{} for {}", checked.image, checked.platform),
            seconds: 0.0,
            failure: (!checked.is_whole).then_some("layers of it are not in the cache"),
        }));
        if let Kept::Failed(why) = &self.kept {
            cases.push(Case { class: "cache", name: "kept".to_owned(), seconds: 0.0, failure: Some(why) });
        }
        cases
    }

    fn junit(&self) -> String {
        let cases = self.cases();
        let failures = cases.iter().filter(|case| case.failure.is_some()).count();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"mvm ci\" tests=\"{}\" failures=\"{failures}\" time=\"{:.3}\">\n",
            cases.len(),
            self.took.as_secs_f64()
        );
        for Case { class, name, seconds, failure } in &cases {
            let (name, end) = (escaped(name), if failure.is_some() { "" } else { "/" });
            let _ = writeln!(
                text,
                "  <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\"{end}>"
            );
            if let Some(failure) = failure {
                let _ = writeln!(text, "    <failure message=\"{}\"/>\n  </testcase>", escaped(failure));
            }
        }
        text.push_str("</testsuite>\n");
        text
    }
}

/// A build without the arguments that it had: a report is for many, and some of them keep secrets in arguments.
fn told(past: &Past) -> Past {
    Past { attributes: [].into(), ..past.clone() }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As the value of an attribute; what XML has no place for is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(status: PastState, error: Option<&str>) -> Past {
        Past {
            id: "a".into(),
            name: "demo:1".into(),
            status,
            digest: None,
            created: None,
            completed: None,
            took_ms: Some(1500),
            steps: 2,
            cached_steps: 1,
            warnings: 0,
            pinned: false,
            error: error.map(str::to_owned),
            attributes: [("build-arg:TOKEN".to_owned(), "s3cret".to_owned())].into(),
            response: [].into(),
        }
    }

    #[test]
    fn everything_is_a_case_and_what_failed_says_why() {
        let report = Report {
            command: ["sh", "-c", "a < b && \"c\""].map(str::to_owned).into(),
            status: 2,
            builds: vec![
                past(PastState::Error, Some("exit code: 1\nline\u{1}")),
                past(PastState::Completed, None),
            ],
            checked: vec![
                Checked { image: "demo:1".into(), platform: "linux/arm64".into(), is_whole: true },
                Checked { image: "demo:1".into(), platform: "linux/arm/v7".into(), is_whole: false },
            ],
            took: Duration::from_millis(2500),
            ..Report::default()
        };
        assert_eq!(
            report.junit(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuite name=\"mvm ci\" tests=\"5\" failures=\"3\" time=\"2.500\">\n  \
             <testcase classname=\"command\" name=\"sh -c a &lt; b &amp;&amp; &quot;c&quot;\" time=\"2.500\">\n    \
             <failure message=\"the command failed\"/>\n  </testcase>\n  \
             <testcase classname=\"build\" name=\"demo:1\" time=\"1.500\"/>\n  \
             <testcase classname=\"build\" name=\"demo:1\" time=\"1.500\">\n    \
             <failure message=\"exit code: 1&#10;line\"/>\n  </testcase>\n  \
             <testcase classname=\"cache\" name=\"demo:1 for linux/arm64\" time=\"0.000\"/>\n  \
             <testcase classname=\"cache\" name=\"demo:1 for linux/arm/v7\" time=\"0.000\">\n    \
             <failure message=\"layers of it are not in the cache\"/>\n  </testcase>\n</testsuite>\n"
        );
        assert_eq!(report.json()["builds"][0]["status"], "error");
        assert!(!report.json().to_string().contains("s3cret"), "{}", report.json());
    }
}
