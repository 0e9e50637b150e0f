//! The queue, pure: generic over memory and over what carries requests out. Each is answered when that is done, in
//! whatever order it comes about.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use virtio_queue::{Queue, QueueT};
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::flight::{Spans, Step, Work};
use super::request::{Limits, Refused, Request, Zeroes};
use crate::devices::RingError;
use crate::devices::chain::{self, CHAINS, Chain, Pass};
use crate::memory::Span;

/// The length of a disk's name (virtio 1.3, 5.2.6).
const NAME: usize = 20;

/// Carries steps of requests out. A request has one under way at a time, and is named by the head of its chain.
pub(super) trait Storage<M> {
    /// In bytes.
    fn size(&self) -> u64;
    fn is_read_only(&self) -> bool;
    fn name(&self) -> &str;
    /// Begins a step. A flush makes durable what has ended before.
    fn begin(&mut self, head: u16, step: &Step, memory: &M);
    /// A step that has ended, with how many bytes it has moved.
    fn ended(&mut self) -> Option<(u16, io::Result<usize>)>;
    /// Waits until a step has ended; whether there was one to wait for.
    fn wait(&mut self) -> bool;
    /// A request could not be carried out, for a reason of the host's.
    fn failed(&self, error: &io::Error);
}

/// The requests under way, by the heads of their chains: never more than the queue has entries.
#[derive(Debug, Default)]
pub(super) struct Flights(BTreeMap<u16, Flight>);

#[derive(Debug)]
struct Flight {
    work: Work,
    /// How it went, once there is no work left.
    status: u32,
    /// Where the driver finds that: the last byte of what is to be filled.
    place: GuestAddress,
    /// That byte and all before it.
    filled: u32,
}

/// Steps whose end one pass sees to. Some are carried out at once, of a MiB each: stop, pause and reset wait for that.
const STEPS: usize = 256;

/// Answers what has ended and begins what waits, until there is neither, or it has been enough for one pass.
pub(super) fn serve<M: GuestMemory>(
    flights: &mut Flights,
    queue: &mut Queue,
    memory: &M,
    storage: &mut impl Storage<M>,
) -> Result<Pass, RingError> {
    // What the driver did not set up lies nowhere: its memory is not to be touched.
    if !queue.ready() {
        return Ok(Pass::default());
    }
    let mut looks = 0_usize;
    let mut service = Service { flights, queue, memory, storage, is_any_answered: false };
    loop {
        service.queue.disable_notification(memory)?;
        while looks < CHAINS {
            looks = looks.saturating_add(1);
            let Some(chain) = chain::next(service.queue, memory)? else { break };
            service.take(chain)?;
        }
        let goes_on = service.answer()? || looks >= CHAINS;
        if goes_on || !chain::await_more(service.queue, memory)? {
            return Ok(Pass { signal: service.must_tell()?, goes_on });
        }
    }
}

/// Waits for what is under way, and answers it.
pub(super) fn settle<M: GuestMemory>(
    flights: &mut Flights,
    queue: &mut Queue,
    memory: &M,
    storage: &mut impl Storage<M>,
) -> Result<bool, RingError> {
    let mut service = Service { flights, queue, memory, storage, is_any_answered: false };
    while service.answer()? || (!service.flights.0.is_empty() && service.storage.wait()) {}
    service.must_tell()
}

impl Flights {
    /// There is nobody any more who waits for an answer.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

struct Service<'a, M, S> {
    flights: &'a mut Flights,
    queue: &'a mut Queue,
    memory: &'a M,
    storage: &'a mut S,
    is_any_answered: bool,
}

impl<M: GuestMemory, S: Storage<M>> Service<'_, M, S> {
    /// Begins a request.
    fn take<B: BitmapSlice>(&mut self, mut chain: Chain<'_, B>) -> Result<(), RingError> {
        // Of two with one name, one would be answered for the other.
        if self.flights.0.contains_key(&chain.head) {
            return Err(RingError::Twice);
        }
        let filled = chain.writable.available();
        let Some(place) = chain.writable.spans(filled).last().map(Span::last_byte) else {
            // Without room for a status there is nobody to answer.
            return self.give_back(chain.head, 0);
        };
        let limits = Limits {
            disk: self.storage.size(),
            is_read_only: self.storage.is_read_only(),
            to_fill: filled.saturating_sub(1) as u64,
            filled: chain.readable.available() as u64,
        };
        let (work, status) = match Request::read(&mut chain.readable, limits) {
            Ok(request) => (self.work(request, &mut chain), VIRTIO_BLK_S_OK),
            Err(Refused::Wrong) => (Work::Nothing, VIRTIO_BLK_S_IOERR),
            Err(Refused::Unsupported) => (Work::Nothing, VIRTIO_BLK_S_UNSUPP),
        };
        let filled = u32::try_from(filled).unwrap_or(u32::MAX);
        self.go_on(chain.head, Flight { work, status, place, filled })
    }

    /// What a request comes to. The disk's name is here, and is given at once.
    fn work<B: BitmapSlice>(&self, request: Request, chain: &mut Chain<'_, B>) -> Work {
        let clear = |ranges: Vec<Zeroes>| {
            let ranges = ranges.into_iter().filter(|zeroes| !zeroes.range.is_empty()).collect();
            Work::Clear { ranges, by_hand: false }
        };
        let length =
            |range: &Range<u64>| usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        match request {
            Request::Read(at) => Work::Read { into: Spans::new(chain.writable.spans(length(&at))), at },
            Request::Write(at) => Work::Write { from: Spans::new(chain.readable.spans(length(&at))), at },
            Request::Flush if self.storage.is_read_only() => Work::Nothing,
            Request::Flush => Work::Flush,
            Request::Identify => {
                let mut name = self.storage.name().as_bytes().to_vec();
                name.resize(NAME, 0);
                let room = chain.writable.available().saturating_sub(1).min(NAME);
                // There is as much room as that.
                let _ = chain.writable.write_all(name.get(..room).unwrap_or_default());
                Work::Nothing
            }
            Request::Discard(ranges) => {
                clear(ranges.into_iter().map(|range| Zeroes { range, may_unmap: true }).collect())
            }
            Request::WriteZeroes(ranges) => clear(ranges),
        }
    }

    /// Goes on with whatever has come a step further; whether there may be more of that.
    fn answer(&mut self) -> Result<bool, RingError> {
        for _ in 0..STEPS {
            let Some((head, result)) = self.storage.ended() else { return Ok(false) };
            let Some(mut flight) = self.flights.0.remove(&head) else { continue };
            if let Err(error) = flight.work.ended(result) {
                tracing::debug!(%error, head, "a disk's request failed");
                self.storage.failed(&error);
                (flight.work, flight.status) = (Work::Nothing, VIRTIO_BLK_S_IOERR);
            }
            self.go_on(head, flight)?;
        }
        Ok(true)
    }

    /// Begins the next step of a request, or answers it.
    fn go_on(&mut self, head: u16, flight: Flight) -> Result<(), RingError> {
        if let Some(step) = flight.work.next() {
            self.storage.begin(head, &step, self.memory);
            self.flights.0.insert(head, flight);
            return Ok(());
        }
        let status = u8::try_from(flight.status).unwrap_or(u8::MAX);
        self.memory.write_obj(status, flight.place).map_err(|_| RingError::Unreadable)?;
        self.give_back(head, flight.filled)
    }

    fn give_back(&mut self, head: u16, filled: u32) -> Result<(), RingError> {
        self.queue.add_used(self.memory, head, filled)?;
        self.is_any_answered = true;
        Ok(())
    }

    fn must_tell(self) -> Result<bool, RingError> {
        Ok(self.is_any_answered && self.queue.needs_notification(self.memory)?)
    }
}

#[cfg(test)]
mod tests;
