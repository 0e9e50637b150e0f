//! A build in time: every step and every transfer with its beginning and its end, as JSON (`Timeline`) and as a page (`page`).

mod page;

use std::collections::BTreeMap;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use serde::Serialize;

use super::platform::Platforms;
use super::progress::{Graph, Step};

pub use page::html;

/// A whole build. Times are milliseconds since its first step began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// What was built.
    pub name: String,
    pub took_ms: u64,
    pub steps: Vec<Row>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub digest: String,
    pub name: String,
    /// The platform that it ran on, where its name says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    pub kind: Kind,
    /// What executed it, unless the processor did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    pub started_ms: u64,
    pub took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Moved>,
}

/// What a step's time went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing: it was done before.
    Cached,
    Native,
    Emulated,
    /// The builder's own work: reading the Dockerfile, resolving names.
    Internal,
    Transfer,
    Export,
    Failed,
}

/// Something that a step moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub name: String,
    /// Bytes.
    pub amount: u64,
    pub started_ms: u64,
    pub took_ms: u64,
}

impl Timeline {
    /// The build that `graph` has followed.
    pub fn of(name: &str, graph: &Graph, platforms: &Platforms) -> Self {
        let steps = graph.in_order();
        let origin = steps.iter().filter_map(|step| step.began).map(nanoseconds).min().unwrap_or_default();
        let since = |time: Timestamp| milliseconds(nanoseconds(time).saturating_sub(origin));
        let mut last = 0;
        let mut span = |from: Option<Timestamp>, until: Option<Timestamp>| {
            let start = from.map_or(0, since);
            // What has no end was cut off: it has no length that is known.
            let end = until.map_or(start, since).max(start);
            last = last.max(end);
            (start, end.saturating_sub(start))
        };
        let mut rows = Vec::new();
        for step in &steps {
            let (started_ms, took_ms) = span(step.began, step.completed);
            let transfers: Vec<_> = step
                .transfers()
                .iter()
                .map(|transfer| {
                    let (started_ms, took_ms) = span(transfer.started(), transfer.ended());
                    Moved { name: transfer.name(), amount: transfer.amount(), started_ms, took_ms }
                })
                .collect();
            let emulated = platforms.emulated(&step.name);
            rows.push(Row {
                digest: step.digest.clone(),
                platform: platform(&step.name),
                kind: kind(step, emulated.is_some(), !transfers.is_empty()),
                emulator: emulated.map(|(_, emulator)| emulator.to_owned()),
                name: step.name.clone(),
                started_ms,
                took_ms,
                error: Some(step.error.clone()).filter(|error| !error.is_empty()),
                transfers,
            });
        }
        Self { name: name.to_owned(), took_ms: last, steps: rows }
    }

    /// The steps of each platform, those of none first.
    pub(super) fn by_platform(&self) -> BTreeMap<Option<&str>, Vec<&Row>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &self.steps {
            groups.entry(row.platform.as_deref()).or_default().push(row);
        }
        groups
    }

    /// How many steps there are of a kind, and how long they took together.
    pub(super) fn sum(&self, kind: Kind) -> (usize, u64) {
        let of_kind = self.steps.iter().filter(|row| row.kind == kind);
        of_kind.fold((0, 0), |(count, took), row| (count.saturating_add(1), took.saturating_add(row.took_ms)))
    }
}

/// As it stands at the beginning of a step's name, with what it builds for: `[linux/amd64->arm64 build 2/3] RUN make`. Where there
/// are several nodes, the node stands before it.
fn platform(step: &str) -> Option<String> {
    let inside = step.strip_prefix('[')?.split(']').next()?;
    let is_platform = |word: &&str| {
        word.split_once('/')
            .is_some_and(|(os, _)| !os.is_empty() && os.chars().all(|c| c.is_ascii_lowercase()))
    };
    inside.split(' ').take(2).find(is_platform).map(str::to_owned)
}

fn kind(step: &Step, is_emulated: bool, has_transfers: bool) -> Kind {
    let name = without_node(&step.name);
    if !step.error.is_empty() {
        Kind::Failed
    } else if step.cached {
        Kind::Cached
    } else if name.starts_with("exporting") || name.starts_with("pushing") || name.starts_with("importing") {
        Kind::Export
    } else if has_transfers {
        Kind::Transfer
    } else if name.contains("internal]") || !name.starts_with('[') {
        Kind::Internal
    } else if is_emulated && name.contains("] RUN ") {
        Kind::Emulated
    } else {
        Kind::Native
    }
}

/// What BuildKit puts in no brackets has a node's name alone in them, where there are several: `[near] exporting to image`.
fn without_node(name: &str) -> &str {
    match name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((inside, rest)) if !inside.contains([' ', '/']) && inside != "internal" && inside != "auth" => {
            rest
        }
        _ => name,
    }
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds).saturating_mul(1_000_000_000).saturating_add(time.nanos.into())
}

fn milliseconds(nanoseconds: i128) -> u64 {
    u64::try_from(nanoseconds.max(0) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
