//! The builds that a builder remembers.
//!
//! Never is a limit asked for: BuildKit v0.20 to v0.28 stumbles over a deleted record then, and takes the Docker daemon that it is a
//! part of with it (moby/buildkit pull request 6598).

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, UpdateBuildHistoryRequest,
};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{KeepError, Keeper, refused, time};
use crate::printable::printable;

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Past {
    pub id: String,
    /// The images that it made, or else what it was told to build.
    pub name: String,
    pub status: State,
    /// Of the image, or of the index, that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub created: Option<DateTime<Utc>>,
    pub completed: Option<DateTime<Utc>>,
    /// Milliseconds; absent while it runs.
    pub took_ms: Option<u64>,
    pub steps: i32,
    pub cached_steps: i32,
    pub warnings: i32,
    pub pinned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub attributes: BTreeMap<String, String>,
    /// What its exporters said.
    pub response: BTreeMap<String, String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Completed,
    Canceled,
    Error,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Running, Self::Completed, Self::Canceled, Self::Error];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
            Self::Error => "error",
        }
    }
}

/// gRPC's number of a call that its client gave up.
const CANCELED: i32 = 1;

/// The address of a context that a client sends as a stream; what follows is the client's.
const SENT: &str = "http://buildkit-session/";

/// Everything that is remembered, and nothing that is still to come.
pub(super) fn everything() -> BuildHistoryRequest {
    BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() }
}

impl Keeper {
    /// The builds that are remembered, the newest first.
    pub async fn history(&mut self) -> Result<Vec<Past>, KeepError> {
        let mut builds = BTreeMap::new();
        for event in self.memories(everything()).await? {
            let is_deleted = event.r#type() == BuildHistoryEventType::Deleted;
            let Some(record) = event.record else { continue };
            if is_deleted {
                builds.remove(&record.r#ref);
            } else {
                builds.insert(record.r#ref.clone(), Past::from(record));
            }
        }
        let mut builds: Vec<_> = builds.into_values().collect();
        builds.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        Ok(builds)
    }

    /// The build whose name begins like this; behind slashes, as others write it with its builder and node.
    pub async fn build(&mut self, name: &str) -> Result<Past, KeepError> {
        let beginning = name.rsplit('/').next().unwrap_or_default();
        let mut found = self.history().await?;
        if let Some(exact) = found.iter().find(|past| past.id == beginning) {
            return Ok(exact.clone());
        }
        found.retain(|past| !beginning.is_empty() && past.id.starts_with(beginning));
        match found.len() {
            1 => found.pop().ok_or_else(|| KeepError::NoBuild(name.to_owned())),
            0 => Err(KeepError::NoBuild(name.to_owned())),
            _ => Err(KeepError::Ambiguous(name.to_owned())),
        }
    }

    pub async fn forget(&mut self, id: &str) -> Result<(), KeepError> {
        let request = UpdateBuildHistoryRequest {
            r#ref: id.to_owned(),
            delete: true,
            ..UpdateBuildHistoryRequest::default()
        };
        self.control.update_build_history(request).await.map_err(|status| refused(&status))?;
        Ok(())
    }
}

/// A build that makes no image with a name: its context, as far as the builder is told of it, its Dockerfile and its stage.
fn described(attributes: &HashMap<String, String>) -> String {
    let known = |key| attributes.get(key).map(String::as_str);
    let address = known("context").map(|address| if address.starts_with(SENT) { "-" } else { address });
    let words = [address.or(known("vcs:localdir:context")), known("filename"), known("target")];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl From<BuildHistoryRecord> for Past {
    fn from(record: BuildHistoryRecord) -> Self {
        let (created, completed) = (time(record.created_at), time(record.completed_at));
        let took =
            created.zip(completed).map(|(from, until)| until.signed_duration_since(from).num_milliseconds());
        let status = match (&record.error, completed) {
            (Some(error), _) if error.code == CANCELED => State::Canceled,
            (Some(_), _) => State::Error,
            (None, Some(_)) => State::Completed,
            (None, None) => State::Running,
        };
        let names: Vec<_> = record
            .exporters
            .iter()
            .filter_map(|exporter| Some(exporter.attrs.get("name")?.as_str()))
            .collect();
        let name = if names.is_empty() { described(&record.frontend_attrs) } else { names.join(",") };
        let result = record.result.as_ref();
        let digest =
            result.and_then(|result| result.results.values().next().or(result.result_deprecated.as_ref()));
        let safe = |(key, value): (String, String)| (printable(&key), printable(&value));
        Self {
            id: printable(&record.r#ref),
            name: printable(&name),
            status,
            digest: digest.map(|descriptor| printable(&descriptor.digest)),
            created,
            completed,
            took_ms: took.and_then(|took| u64::try_from(took).ok()),
            steps: record.num_total_steps,
            cached_steps: record.num_cached_steps,
            warnings: record.num_warnings,
            pinned: record.pinned,
            error: record.error.map(|error| printable(&error.message)),
            attributes: record.frontend_attrs.into_iter().map(safe).collect(),
            response: record.exporter_response.into_iter().map(safe).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::google::rpc;
    use bollard_buildkit_proto::moby::buildkit::v1::Exporter;

    use super::*;

    /// See the head of this file.
    #[test]
    fn a_history_is_asked_for_without_a_limit() {
        assert_eq!((everything().limit, everything().early_exit), (0, true));
    }

    #[test]
    fn a_build_without_a_name_is_told_by_what_was_built() {
        let told = |attributes: &[(&str, &str)]| {
            described(
                &attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            )
        };
        let file = ("filename", "D");
        assert_eq!(told(&[file]), "D");
        assert_eq!(told(&[file, ("vcs:localdir:context", "a/b"), ("target", "t")]), "a/b D t");
        assert_eq!(
            told(&[file, ("context", "https://h/r.git"), ("vcs:localdir:context", ".")]),
            "https://h/r.git D"
        );
        assert_eq!(told(&[file, ("context", "http://buildkit-session/abc")]), "- D");
    }

    #[test]
    fn a_record_says_how_it_ended() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let record = |completed_at, error: Option<i32>| BuildHistoryRecord {
            r#ref: "r".to_owned(),
            created_at: at(100),
            completed_at,
            error: error.map(|code| rpc::Status {
                code,
                message: "why\u{1b}[31m".to_owned(),
                details: Vec::new(),
            }),
            exporters: vec![Exporter {
                r#type: "moby".to_owned(),
                attrs: [("name".to_owned(), "a,b".to_owned())].into(),
            }],
            ..BuildHistoryRecord::default()
        };
        let past = Past::from(record(at(103), None));
        assert_eq!((past.status, past.took_ms, past.name.as_str()), (State::Completed, Some(3000), "a,b"));
        assert_eq!(Past::from(record(None, None)).status, State::Running);
        assert_eq!(Past::from(record(at(1), Some(1))).status, State::Canceled);
        let failed = Past::from(record(at(103), Some(2)));
        assert_eq!((failed.status, failed.error.as_deref()), (State::Error, Some("why")));
    }
}
