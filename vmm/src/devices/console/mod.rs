//! The console (virtio 1.3, 5.3): what the guest prints goes to a socket of the host's. It has one port and no input.

mod queues;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_queue::Queue;

use super::{Device, RingError, Signals};
use crate::memory::Memory;
use crate::platform::{Event, Interest, Poller};

/// The only port's transmit queue (virtio 1.3, 5.3.2).
const TRANSMIT: u32 = 1;

/// Takes what the guest prints. A reader that does not keep up holds the guest's console back, and nothing else.
#[derive(Debug)]
pub struct Console {
    output: OwnedFd,
    /// What the reader did not take yet; the guest's next buffers wait for that.
    pending: Vec<u8>,
    /// Reports when it takes more.
    poller: Poller,
    watched: Interest,
    events: Vec<Event>,
}

impl Console {
    pub fn new(output: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&output, true)?;
        let poller = Poller::new()?;
        let watched = Interest::default();
        poller.add(&output, 0, watched)?;
        Ok(Self { output, pending: Vec::new(), poller, watched, events: Vec::new() })
    }

    /// Writes what waits, as far as it is taken; whether all of it was.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.output, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count.min(self.pending.len()))),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // Nobody reads any more: what the guest prints is lost.
                Err(_) => self.pending.clear(),
            }
        }
        self.pending.is_empty()
    }

    fn watch(&mut self) {
        let _ = self.poller.poll(&mut self.events);
        let interest = Interest { read: false, write: !self.pending.is_empty() };
        // To ask anew is to be told anew, as of a reader that is gone.
        if interest == self.watched {
            return;
        }
        self.watched = interest;
        if let Err(error) = self.poller.modify(&self.output, 0, interest) {
            tracing::error!(%error, "the console cannot wait for its reader");
        }
    }
}

impl Device for Console {
    fn id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 64]
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [Queue],
        _now: Instant,
    ) -> Result<Signals, RingError> {
        let mut signals = Signals::default();
        if let [_, transmit, ..] = queues {
            let done = queues::take(transmit, memory, |bytes| {
                self.pending.extend_from_slice(bytes);
                self.flush()
            });
            let pass = done?;
            signals.add(TRANSMIT, pass.signal);
            signals.go_on(pass.goes_on);
        } else {
            // Not with a queue: what it was stopped for has to wait until the descriptor says that it need not.
            self.flush();
        }
        self.watch();
        Ok(signals)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::devices::testing::{Buffer, Driver};
    use crate::memory;

    #[test]
    fn no_buffer_is_left_behind_by_a_reader_that_takes_a_little_at_a_time() {
        let (output, mut reader) = UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&output, 4096).unwrap();
        let mut console = Console::new(output.into()).unwrap();
        let reading = thread::spawn(move || while let Ok(1..) = reader.read(&mut [0]) {});
        let mut driver = Driver::new();
        for round in 1..=2000 {
            for place in 0..16 {
                driver.send_from(place, &[Buffer::Filled(b"sixteen letters\n")]);
            }
            loop {
                let mut queues = [Queue::default(), std::mem::take(&mut driver.queue)];
                console.process(&driver.memory, &mut queues, Instant::now()).unwrap();
                [_, driver.queue] = queues;
                if driver.used().0 == 16 * round {
                    break;
                }
                let mut descriptor = [PollFd::new(&console.poller, PollFlags::IN)];
                let ready = poll(&mut descriptor, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
                assert_eq!(ready, 1, "nothing is there to bring the device back");
            }
        }
        drop(console);
        reading.join().unwrap();
    }

    #[test]
    fn a_reader_that_is_gone_is_told_once() {
        let (output, reader) = UnixStream::pair().unwrap();
        let mut console = Console::new(output.into()).unwrap();
        let memory = memory::of_size(0x1000);
        let mut worker = Poller::new().unwrap();
        worker.add(console.descriptor().unwrap(), 0, Interest { read: true, write: false }).unwrap();
        let mut events = Vec::new();
        drop(reader);
        worker.poll(&mut events).unwrap();
        assert_eq!(events.len(), 1);
        console.process(&memory, &mut [], Instant::now()).unwrap();
        worker.poll(&mut events).unwrap();
        assert_eq!(events, [], "or its thread would never rest again");
    }
}
