//! When to ask a guest that does not listen yet once more.

use std::time::{Duration, Instant};

use super::limits::KNOCKING;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Whether the guest's driver is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// It never was: the guest is still booting.
    Awaited,
    Up,
    /// It has gone, and may come back.
    Down,
    /// It broke the device, which does nothing until it is reset.
    Broken,
}

/// A request of the host on its way to the guest.
#[derive(Debug)]
pub(super) struct Knock {
    /// None as long as the guest is booting: that time does not count. Any other does, also while the driver is gone.
    deadline: Option<Instant>,
    phase: Phase,
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no driver to ask.
    NoDriver,
    /// The next request may go out, and waits for a buffer of the guest.
    Due,
    /// The guest has a request that it has not answered.
    Asked,
    /// Nobody listened; once more then.
    Pausing(Instant),
}

impl Knock {
    pub(super) fn new(driver: Driver, now: Instant) -> Self {
        let mut knock = Self { deadline: None, phase: Phase::NoDriver, pause: FIRST_PAUSE };
        match driver {
            Driver::Awaited => {}
            Driver::Up => knock.start(now),
            Driver::Down | Driver::Broken => knock.deadline = Some(later(now, KNOCKING)),
        }
        knock
    }

    /// The driver is up (again).
    pub(super) fn start(&mut self, now: Instant) {
        self.deadline.get_or_insert(later(now, KNOCKING));
        self.phase = Phase::Due;
        self.pause = FIRST_PAUSE;
    }

    /// The driver is gone, and an unanswered request with it.
    pub(super) fn suspend(&mut self) {
        self.phase = Phase::NoDriver;
    }

    pub(super) fn is_due(&self) -> bool {
        self.phase == Phase::Due
    }

    pub(super) fn sent(&mut self) {
        self.phase = Phase::Asked;
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Pausing(until) if until <= now) {
            self.phase = Phase::Due;
        }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.phase == Phase::Asked
    }

    /// Nobody listens: once more after a pause that grows by half each time.
    pub(super) fn refused(&mut self, now: Instant) {
        self.phase = Phase::Pausing(later(now, self.pause));
        self.pause = self.pause.saturating_mul(3).checked_div(2).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When something has to be done.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match (self.deadline, self.phase) {
            (Some(deadline), Phase::Pausing(until)) => Some(deadline.min(until)),
            (deadline, _) => deadline,
        }
    }
}

/// `now + wait`; a clock too close to its end for that gives `now`.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_guest_boots_no_time_passes() {
        let now = Instant::now();
        let mut knock = Knock::new(Driver::Awaited, now);
        knock.tick(now + Duration::from_secs(3600));
        assert!(!knock.is_due());
        assert!(!knock.is_over(now + Duration::from_secs(3600)));
        assert_eq!(knock.wake_at(), None);
    }

    #[test]
    fn a_driver_that_goes_and_comes_does_not_move_the_deadline() {
        let start = Instant::now();
        let mut knock = Knock::new(Driver::Up, start);
        for second in 1..30 {
            let now = start + Duration::from_secs(second);
            knock.suspend();
            assert!(!knock.is_due() && !knock.is_unanswered());
            assert_eq!(knock.wake_at(), Some(start + KNOCKING), "time counts without a driver, too");
            knock.start(now);
            assert!(knock.is_due() && !knock.is_over(now));
        }
        assert!(knock.is_over(start + KNOCKING));
        assert_eq!(Knock::new(Driver::Down, start).wake_at(), Some(start + KNOCKING));
    }

    #[test]
    fn pauses_grow_up_to_a_limit_until_the_deadline() {
        let start = Instant::now();
        let mut knock = Knock::new(Driver::Up, start);
        let mut now = start;
        let mut requests = 0;
        let mut longest = Duration::ZERO;
        while !knock.is_over(now) {
            assert!(knock.is_due());
            knock.sent();
            assert!(knock.is_unanswered());
            requests += 1;
            knock.refused(now);
            let next = knock.wake_at().unwrap();
            longest = longest.max(next - now);
            now = next;
            knock.tick(now);
        }
        assert_eq!(now - start, KNOCKING);
        assert_eq!(longest, LONGEST_PAUSE);
        assert!((300..400).contains(&requests), "{requests} requests");
    }
}
