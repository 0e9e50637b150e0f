//! Events: epoll, timerfd and eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::platform::{Event, Interest};

/// Readiness of many descriptors and one timer. Is itself a descriptor that becomes readable when it has events.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
}

/// The timer's own token, which no caller sees.
const TIMER: u64 = u64::MAX;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        Ok(Self { epoll, timer, armed: None })
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags(interest))?)
    }

    pub(crate) fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), flags(interest))?)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) {
        // Fails only for a descriptor that is not registered, and then there is nothing to remove.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Makes [`Poller::poll`] wake at `when`, if nothing happens before.
    pub(crate) fn wake_at(&mut self, when: Option<Instant>) -> io::Result<()> {
        if self.armed == when {
            return Ok(());
        }
        let wait = when.map(|when| {
            // Zero would disarm the timer.
            when.saturating_duration_since(Instant::now()).max(Duration::from_micros(1))
        });
        let value = wait.map_or(Ok(ZERO), Timespec::try_from).map_err(|_| io::ErrorKind::InvalidInput)?;
        let setting = Itimerspec { it_interval: ZERO, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        self.armed = when;
        Ok(())
    }

    /// Puts what has happened into `events`, without waiting. At most 64 at a time; the rest comes next time.
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.take(events, Some(&ZERO))
    }

    /// The same, but waits until something has happened.
    pub(crate) fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.take(events, None)
    }

    fn take(&mut self, events: &mut Vec<Event>, patience: Option<&Timespec>) -> io::Result<()> {
        events.clear();
        let mut raw: Vec<epoll::Event> = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut raw), patience) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            other => other?,
        };
        for event in &raw {
            let flags = event.flags;
            let token = event.data.u64();
            if token == TIMER {
                let mut expirations = [0; 8];
                let _ = rustix::io::read(&self.timer, &mut expirations);
                self.armed = None;
                continue;
            }
            let hangup = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            let readable = flags.intersects(epoll::EventFlags::IN);
            let writable = flags.intersects(epoll::EventFlags::OUT);
            events.push(Event { token, readable, writable, hangup });
        }
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Level-triggered, so that nothing is lost when a caller stops early; a hang-up alone is edge-triggered, because
/// epoll reports it whether one asks or not, and as a level it would never stop.
fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    if flags.is_empty() { epoll::EventFlags::ET } else { flags }
}

/// Wakes a [`Poller`] from another thread.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // Fails only when 2^64 - 2 wakes already wait, and then it is awake.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes back all wakes so far.
    pub(crate) fn consume(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
