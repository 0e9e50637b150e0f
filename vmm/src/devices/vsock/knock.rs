//! When to ask a guest that does not listen yet once more.

use std::time::{Duration, Instant};

use super::limits::KNOCKING;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A request of the host on its way to the guest.
#[derive(Debug)]
pub(super) struct Knock {
    /// None while the guest has no driver: that time does not count.
    deadline: Option<Instant>,
    /// When the next request may go out.
    next: Option<Instant>,
    /// It may go out now, and waits for a buffer of the guest.
    due: bool,
    pause: Duration,
}

impl Knock {
    pub(super) fn new(driver_is_up: bool, now: Instant) -> Self {
        let mut knock = Self { deadline: None, next: None, due: false, pause: FIRST_PAUSE };
        if driver_is_up {
            knock.start(now);
        }
        knock
    }

    /// The driver is up (again): from now on time counts, and the first request may go out.
    pub(super) fn start(&mut self, now: Instant) {
        self.deadline = Some(later(now, KNOCKING));
        self.next = None;
        self.due = true;
        self.pause = FIRST_PAUSE;
    }

    /// The driver is gone, and an unanswered request with it.
    pub(super) fn suspend(&mut self) {
        *self = Self { deadline: None, next: None, due: false, pause: FIRST_PAUSE };
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn sent(&mut self) {
        self.due = false;
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
            self.due = true;
        }
    }

    /// Whether the guest has a request that it has not answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.deadline.is_some() && self.next.is_none() && !self.due
    }

    /// Nobody listens: once more after a pause that grows by half each time.
    pub(super) fn refused(&mut self, now: Instant) {
        self.next = Some(later(now, self.pause));
        self.pause = self.pause.saturating_mul(3).checked_div(2).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When something has to be done.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match (self.deadline, self.next) {
            (Some(deadline), Some(next)) => Some(deadline.min(next)),
            (deadline, next) => deadline.or(next),
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
    fn without_a_driver_no_time_passes() {
        let now = Instant::now();
        let mut knock = Knock::new(false, now);
        knock.tick(now + Duration::from_secs(3600));
        assert!(!knock.is_due());
        assert!(!knock.is_over(now + Duration::from_secs(3600)));
        assert_eq!(knock.wake_at(), None);
    }

    #[test]
    fn pauses_grow_up_to_a_limit_until_the_deadline() {
        let start = Instant::now();
        let mut knock = Knock::new(true, start);
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
