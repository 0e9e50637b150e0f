//! How kqueue is asked, and what its reports come to: it knows the two directions of a descriptor apart.

use std::time::Duration;

use super::{Event, Interest};

/// What one filter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// How it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Reported as long as it holds, so that nothing is lost when a caller stops early.
    Level,
    /// Reported when something changes.
    Edge,
}

/// What to watch for an interest. That the other side hung up is known to the filter of writes: as an edge, since as a level
/// it would be reported for ever, as would that there is room. The price: whoever waits wakes when room comes, for nothing.
pub(crate) fn watches(interest: Interest) -> impl Iterator<Item = (Direction, Watch)> {
    let read = interest.read.then_some((Direction::Read, Watch::Level));
    let write = match interest {
        Interest { write: true, .. } => Some((Direction::Write, Watch::Level)),
        Interest { read: false, .. } => Some((Direction::Write, Watch::Edge)),
        Interest { read: true, .. } => None,
    };
    read.into_iter().chain(write)
}

/// What kqueue says of one direction of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) token: u64,
    pub(crate) direction: Direction,
    pub(crate) watch: Watch,
    /// Nothing more will come this way, or go.
    pub(crate) is_over: bool,
}

/// Makes one event of all reports with the same token. An end of what can be read is read as such; when nobody takes what is
/// written any more, the other side has hung up.
pub(crate) fn gather(reports: impl IntoIterator<Item = Report>, events: &mut Vec<Event>) {
    for report in reports {
        let readable = report.direction == Direction::Read;
        let writable = !readable && report.watch == Watch::Level;
        let hangup = !readable && report.is_over;
        match events.iter_mut().find(|event| event.token == report.token) {
            Some(event) => {
                event.readable |= readable;
                event.writable |= writable;
                event.hangup |= hangup;
            }
            None if readable || writable || hangup => {
                events.push(Event { token: report.token, readable, writable, hangup });
            }
            None => {}
        }
    }
}

/// What the timer is set to: whole milliseconds, and never before the time. rustix takes less than one for none.
pub(crate) fn timer(wait: Duration) -> Duration {
    let milliseconds = wait.as_nanos().div_ceil(1_000_000).max(1);
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(read: bool, write: bool) -> Vec<(Direction, Watch)> {
        watches(Interest { read, write }).collect()
    }

    #[test]
    fn a_hang_up_is_watched_alone_and_as_an_edge() {
        assert_eq!(watched(false, false), [(Direction::Write, Watch::Edge)]);
        assert_eq!(watched(true, false), [(Direction::Read, Watch::Level)]);
        assert_eq!(watched(false, true), [(Direction::Write, Watch::Level)]);
        assert_eq!(watched(true, true), [(Direction::Read, Watch::Level), (Direction::Write, Watch::Level)]);
    }

    #[test]
    fn both_directions_of_a_descriptor_are_one_event() {
        let report = |token, direction, watch, is_over| Report { token, direction, watch, is_over };
        let reports = [
            report(1, Direction::Read, Watch::Level, false),
            report(2, Direction::Read, Watch::Level, true),
            report(3, Direction::Write, Watch::Edge, false),
            report(4, Direction::Write, Watch::Edge, true),
            report(1, Direction::Write, Watch::Level, true),
        ];
        let event = |token, readable, writable, hangup| Event { token, readable, writable, hangup };
        let mut events = Vec::new();
        gather(reports, &mut events);
        assert_eq!(
            events,
            [
                event(1, true, true, true),
                // Half of it has ended: its reader finds that out.
                event(2, true, false, false),
                event(4, false, false, true),
            ],
            "of 3 there is only room that nobody asked for"
        );
    }

    #[test]
    fn no_timer_is_early() {
        let of_nanoseconds = |nanoseconds| timer(Duration::from_nanos(nanoseconds)).as_nanos();
        assert_eq!(of_nanoseconds(0), 1_000_000, "it is set all the same");
        assert_eq!(of_nanoseconds(1), 1_000_000);
        assert_eq!(of_nanoseconds(1_000_000), 1_000_000);
        assert_eq!(of_nanoseconds(1_000_000_001), 1_001_000_000);
    }
}
