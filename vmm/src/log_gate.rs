//! How often a guest may make us complain.

use std::time::{Duration, Instant};

/// Lets one line a second through and counts the others. Each place that a guest can make complain has one of its own, so
/// that no complaint hides another.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    last: Option<Instant>,
    held_back: u64,
}

impl LogGate {
    /// `Some(lines held back since the last)` when one may be written.
    pub(crate) fn open(&mut self) -> Option<u64> {
        self.open_at(Instant::now())
    }

    fn open_at(&mut self, now: Instant) -> Option<u64> {
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
        assert_eq!(gate.open_at(start), Some(0));
        assert_eq!(gate.open_at(start), None);
        assert_eq!(gate.open_at(start + Duration::from_millis(999)), None);
        assert_eq!(gate.open_at(start + Duration::from_millis(1001)), Some(2));
    }
}
