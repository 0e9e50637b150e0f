//! What bounds the device, and how often it may complain.

use std::time::{Duration, Instant};

/// Connections at a time, those that wait for an answer and those that only drain included.
pub(super) const CONNECTIONS: usize = 2048;
/// Requests of the guest that may wait for the host's answer.
pub(super) const DIALS: usize = 256;
/// Bytes that the guest may have on the way to one host stream.
pub(super) const WINDOW: u32 = 256 * 1024;
/// Bytes read from a host stream at a time, and how much a connection may send before the next has its turn.
pub(super) const BATCH: usize = 64 * 1024;
/// Answers that belong to no connection. While they are this many, nothing more is taken from the guest.
pub(super) const ANSWERS: usize = 256;
/// Descriptor chains handled before other events are looked at.
pub(super) const CHAINS: usize = 1024;
/// How long a host's connection waits for the guest to listen, from when its driver is up.
pub(super) const KNOCKING: Duration = Duration::from_secs(30);
/// How long the guest may take to confirm that a connection is over.
pub(super) const LINGERING: Duration = Duration::from_secs(2);
/// How long a listener rests when the process is out of descriptors.
pub(super) const RESTING: Duration = Duration::from_millis(100);

/// Lets one line a second through and counts the others, so that a guest cannot fill the log.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    last: Option<Instant>,
    held_back: u64,
}

impl LogGate {
    /// `Some(lines held back since the last)` when one may be written.
    pub(super) fn open(&mut self, now: Instant) -> Option<u64> {
        let recently =
            self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1));
        if recently {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_says_how_many_did_not() {
        let mut gate = LogGate::default();
        let start = Instant::now();
        assert_eq!(gate.open(start), Some(0));
        assert_eq!(gate.open(start), None);
        assert_eq!(gate.open(start + Duration::from_millis(999)), None);
        assert_eq!(gate.open(start + Duration::from_millis(1001)), Some(2));
    }
}
