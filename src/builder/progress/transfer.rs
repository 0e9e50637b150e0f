//! What a step moves (the context, a layer): how much of it, and for how long.

use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::VertexStatus;

use super::graph::elapsed;
use crate::printable::{human_size, printable};

/// Bytes of what names a transfer that is followed.
pub(super) const ID: usize = 1024;
/// What one takes at most.
pub(super) const SIZE: usize = 3 * ID;

/// One transfer, as it was last told of.
#[derive(Debug)]
pub(in crate::builder) struct Transfer {
    status: VertexStatus,
    seen: Instant,
}

impl Transfer {
    pub(super) fn new(status: VertexStatus) -> Self {
        let mut transfer = Self { status, seen: Instant::now() };
        transfer.bound();
        transfer
    }

    pub(super) fn update(&mut self, status: &VertexStatus) {
        self.status = status.clone();
        self.bound();
    }

    /// Its step's name and its own id are known to be short.
    fn bound(&mut self) {
        let name = &mut self.status.name;
        name.truncate(name.floor_char_boundary(ID));
        name.shrink_to_fit();
    }

    pub(super) fn is(&self, id: &str) -> bool {
        self.status.id == id
    }

    pub(super) fn text(&self) -> String {
        printable(&amount(&self.status))
    }

    pub(in crate::builder) fn name(&self) -> String {
        printable(if self.status.id.is_empty() { &self.status.name } else { &self.status.id })
    }

    /// Bytes.
    pub(in crate::builder) fn amount(&self) -> u64 {
        u64::try_from(self.status.current).unwrap_or_default()
    }

    pub(in crate::builder) fn started(&self) -> Option<Timestamp> {
        self.status.started
    }

    /// When it was over, or was last told of.
    pub(in crate::builder) fn ended(&self) -> Option<Timestamp> {
        self.status.completed.or(self.status.timestamp)
    }

    /// By the daemon's clock when it is over, by ours before.
    pub(super) fn runs_for(&self) -> Duration {
        match self.status.completed {
            Some(completed) => elapsed(self.status.started, Some(completed)),
            None => self.seen.elapsed(),
        }
    }
}

/// What it is, and how much of it has been moved.
pub(super) fn amount(status: &VertexStatus) -> String {
    let what = if status.id.is_empty() { &status.name } else { &status.id };
    let shown = |count: i64| human_size(u64::try_from(count).unwrap_or_default());
    if status.total > 0 {
        format!("{what} {} / {}", shown(status.current), shown(status.total))
    } else if status.current > 0 {
        format!("{what} {}", shown(status.current))
    } else {
        what.clone()
    }
}
