//! Events: kqueue and a pipe.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::without_provenance_mut;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::kqueue::{Event as Raw, EventFilter, EventFlags, kevent_timespec, kqueue};
use rustix::io::Errno;

use crate::platform::kqueue::{Direction, Report, Watch, gather, timer, watches};
use crate::platform::{Event, Interest};

/// Readiness of many descriptors and one timer. Is itself a descriptor that becomes readable when it has events.
#[derive(Debug)]
pub(crate) struct Poller {
    queue: OwnedFd,
    armed: Option<Instant>,
}

/// The only timer's name.
const TIMER: isize = 0;
const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // No child gets a queue.
        Ok(Self { queue: kqueue()?, armed: None })
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify(fd, token, interest)
    }

    /// Makes its filters anew: one that is there does not change between level and edge.
    pub(crate) fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let fd = fd.as_fd();
        self.remove(fd);
        for (direction, watch) in watches(interest) {
            let mode = match watch {
                Watch::Level => EventFlags::empty(),
                Watch::Edge => EventFlags::CLEAR,
            };
            self.change(filter(fd, direction), EventFlags::ADD | mode, token)?;
        }
        Ok(())
    }

    pub(crate) fn remove(&self, fd: impl AsFd) {
        for direction in [Direction::Read, Direction::Write] {
            // Fails only for a filter that is not there, and then there is nothing to remove.
            let _ = self.change(filter(fd.as_fd(), direction), EventFlags::DELETE, 0);
        }
    }

    /// Makes [`Poller::poll`] wake at `when`, if nothing happens before.
    pub(crate) fn wake_at(&mut self, when: Option<Instant>) -> io::Result<()> {
        if self.armed == when {
            return Ok(());
        }
        let wait = when.map(|when| timer(when.saturating_duration_since(Instant::now())));
        let flags = if wait.is_some() { EventFlags::ADD | EventFlags::ONESHOT } else { EventFlags::DELETE };
        match self.change(EventFilter::Timer { ident: TIMER, timer: wait }, flags, 0) {
            // It has rung meanwhile.
            Err(Errno::NOENT) if wait.is_none() => {}
            changed => changed?,
        }
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
        let mut raw: Vec<Raw> = Vec::with_capacity(64);
        // SAFETY: no descriptor is named beside the queue.
        match unsafe { kevent_timespec(&self.queue, &[], spare_capacity(&mut raw), patience) } {
            Err(Errno::INTR) => return Ok(()),
            taken => taken?,
        };
        if raw.iter().any(|event| matches!(event.filter(), EventFilter::Timer { .. })) {
            self.armed = None;
        }
        gather(raw.iter().filter_map(report), events);
        Ok(())
    }

    fn change(&self, filter: EventFilter, flags: EventFlags, token: u64) -> rustix::io::Result<()> {
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let change = Raw::new(filter, flags, without_provenance_mut(token));
        // SAFETY: a descriptor that is closed leaves the queue by itself, so that none is in it that is not valid.
        unsafe { kevent_timespec(&self.queue, &[change], &mut [] as &mut [Raw], None) }?;
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

fn filter(fd: BorrowedFd<'_>, direction: Direction) -> EventFilter {
    match direction {
        Direction::Read => EventFilter::Read(fd.as_raw_fd()),
        Direction::Write => EventFilter::Write(fd.as_raw_fd()),
    }
}

/// What is said of a descriptor; nothing for the timer.
fn report(event: &Raw) -> Option<Report> {
    let direction = match event.filter() {
        EventFilter::Read(_) => Direction::Read,
        EventFilter::Write(_) => Direction::Write,
        _ => return None,
    };
    let flags = event.flags();
    let watch = if flags.contains(EventFlags::CLEAR) { Watch::Edge } else { Watch::Level };
    let token = event.udata().addr() as u64;
    Some(Report { token, direction, watch, is_over: flags.contains(EventFlags::EOF) })
}

/// Wakes a [`Poller`] from another thread.
#[derive(Debug)]
pub(crate) struct Wake {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { reader, writer })
    }

    pub(crate) fn wake(&self) {
        // Fails only when the pipe is full of wakes, and then it is awake.
        let _ = rustix::io::write(&self.writer, &[1]);
    }

    /// Takes back all wakes so far.
    pub(crate) fn consume(&self) {
        let mut wakes = [0; 512];
        while rustix::io::read(&self.reader, &mut wakes).is_ok_and(|count| count == wakes.len()) {}
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
