//! The guest's clocks. It has no battery-backed clock: the host says what time it is.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::Error;
use crate::kernel_args;

/// Milliseconds since the kernel started.
pub(crate) fn boot_milliseconds() -> u64 {
    milliseconds(since_boot())
}

/// Milliseconds since 1970 by the guest's real-time clock.
pub(crate) fn unix_milliseconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// The word says when the machine was started, so what has passed since is added.
pub(super) fn set_from(word: Option<Result<u64, kernel_args::Error>>) -> Result<(), Error> {
    let Some(word) = word else { return Ok(()) };
    let now = Duration::from_secs(word?).saturating_add(since_boot());
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    set(seconds, now.subsec_nanos()).map_err(|source| Error::Set { what: "the clock from mvm.clock", source })
}

/// Steps the real-time clock and says by how many milliseconds.
pub(crate) fn step_to(seconds: i64, nanoseconds: u32) -> Result<i64, std::io::Error> {
    let before = unix_milliseconds();
    set(seconds, nanoseconds)?;
    Ok(unix_milliseconds().saturating_sub(before))
}

fn set(seconds: i64, nanoseconds: u32) -> Result<(), std::io::Error> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Ok(clock_settime(ClockId::Realtime, time)?)
}
