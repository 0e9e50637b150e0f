//! What a step moves (the context, a layer): how much of it, and for how long.

use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::VertexStatus;

use super::graph::elapsed;
use crate::printable::printable;

/// One transfer, as it was last told of.
#[derive(Debug)]
pub(in crate::builder) struct Transfer {
    status: VertexStatus,
    seen: Instant,
}

impl Transfer {
    pub(super) fn new(status: VertexStatus) -> Self {
        Self { status, seen: Instant::now() }
    }

    pub(super) fn update(&mut self, status: &VertexStatus) {
        self.status.clone_from(status);
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
    if status.total > 0 {
        format!("{what} {} / {}", bytes(status.current), bytes(status.total))
    } else if status.current > 0 {
        format!("{what} {}", bytes(status.current))
    } else {
        what.clone()
    }
}

/// In units of a thousand, as BuildKit has them.
fn bytes(count: i64) -> String {
    let mut value = f64::from(i32::try_from(count).unwrap_or(i32::MAX));
    if i64::from(i32::MAX) <= count {
        // Above 2 GB whole kilobytes are exact enough.
        value = f64::from(i32::try_from(count / 1000).unwrap_or(i32::MAX)) * 1000.0;
    }
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{value:.0}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.2}GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, wanted) in [
            (0, "0B"),
            (999, "999B"),
            (1_500, "1.50kB"),
            (12_345_678, "12.35MB"),
            (5_000_000_000, "5.00GB"),
            (-1, "-1B"),
        ] {
            assert_eq!(bytes(count), wanted);
        }
    }
}
