//! When the guest's clock has to be set again: regularly, since clocks drift, and soon after the host has slept.

use std::time::{Duration, Instant, SystemTime};

/// How often the supervisor looks.
pub(super) const LOOK: Duration = Duration::from_secs(5);
const REGULARLY: Duration = Duration::from_secs(120);
/// A difference that nobody notices, and above what `LOOK` itself may be late by.
const JUMP: Duration = Duration::from_millis(500);

/// Compares the real-time clock with the monotonic one, which stands still while the host sleeps.
#[derive(Debug)]
pub(super) struct ClockWatch {
    seen: (Instant, SystemTime),
    set: Instant,
}

impl ClockWatch {
    /// The guest's clock is right at this moment.
    pub(super) fn new(now: Instant, real: SystemTime) -> Self {
        Self { seen: (now, real), set: now }
    }

    /// Whether the guest's clock has to be set now; the caller does it.
    pub(super) fn is_due(&mut self, now: Instant, real: SystemTime) -> bool {
        let passed = now.duration_since(self.seen.0);
        let expected = self.seen.1.checked_add(passed).unwrap_or(real);
        let jump = real.duration_since(expected).unwrap_or_else(|early| early.duration());
        self.seen = (now, real);
        let due = jump > JUMP || now.duration_since(self.set) >= REGULARLY;
        if due {
            self.set = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::ClockWatch;

    #[test]
    fn due_regularly_and_after_sleep() {
        let (start, real) = (Instant::now(), SystemTime::now());
        let seconds = Duration::from_secs;
        let mut watch = ClockWatch::new(start, real);
        assert!(!watch.is_due(start + seconds(5), real + seconds(5)));
        // The host slept for an hour.
        assert!(watch.is_due(start + seconds(10), real + seconds(3610)));
        assert!(!watch.is_due(start + seconds(15), real + seconds(3615)));
        // Somebody set its clock back.
        assert!(watch.is_due(start + seconds(20), real + seconds(20)));
        assert!(!watch.is_due(start + seconds(100), real + seconds(100)));
        assert!(watch.is_due(start + seconds(140), real + seconds(140)));
    }
}
