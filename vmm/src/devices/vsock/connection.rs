//! One connection: what came from the host and waits for the guest, what came from the guest and waits for the
//! host, and how it ends.
//!
//! The two directions end apart (virtio 1.3, 5.10.6.5). When both have ended, the guest is told so and confirms with a
//! reset; bytes that a slow host has not read yet outlive the guest's side.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::credit::{Overrun, Receive, Send};
use super::knock::{Knock, later};
use super::limits::{BATCH, LINGERING};
use super::packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::stream::Stream;
use crate::platform::Interest;

/// How often bytes that nobody wants are read before others have their turn.
const DISCARDS: u32 = 16;

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum State {
    /// The host's request; the guest has not accepted yet.
    Knocking(Knock),
    /// The guest's request, by the number under which the host was asked.
    Dialing(u64),
    Open,
    /// Both directions are over and the guest was told; it confirms with a reset, or time runs out.
    Lingering(Instant),
}

/// What the guest did wrong; its connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("sent more than its credit")]
    Overrun,
    #[error("sent data after it said that it would send no more")]
    DataAfterEnd,
    #[error("sent data before the connection stood")]
    NotOpen,
}

impl From<Overrun> for Violation {
    fn from(_: Overrun) -> Self {
        Self::Overrun
    }
}

/// A packet for the guest; its bytes are at the front of [`Connection::waiting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: Op,
    pub(super) flags: u32,
    pub(super) len: usize,
}

#[derive(Debug)]
pub(super) struct Connection<S> {
    pub(super) state: State,
    stream: Option<S>,
    /// From the host for the guest, from `taken` on.
    to_guest: Vec<u8>,
    taken: usize,
    /// The stream may have more: it has not said that it is dry since the last event.
    readable: bool,
    /// From the guest for the host; credit keeps it within the window.
    to_host: VecDeque<u8>,
    send: Send,
    receive: Receive,
    /// What the guest may send without an answer.
    window: usize,
    /// So much is read from the host at a time, and no more than the window.
    batch: usize,
    owes_response: bool,
    owes_credit: bool,
    asked_credit: bool,
    /// The host will send no more, or read no more.
    host: Ended,
    /// The guest will send no more, or read no more.
    guest: Ended,
    /// The OP_SHUTDOWN flags that the guest has heard.
    told: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Ended {
    sending: bool,
    receiving: bool,
}

impl<S: Stream> Connection<S> {
    /// A host stream that wants to reach the guest; the guest gets `preamble` before what the stream sends.
    pub(super) fn from_host(stream: S, preamble: Vec<u8>, knock: Knock, window: u32) -> Self {
        let mut connection = Self::new(State::Knocking(knock), Some(stream), window);
        connection.to_guest = preamble;
        connection
    }

    /// A request of the guest, while the host is asked. `request` brings the guest's window.
    pub(super) fn from_guest(id: u64, request: &Header, window: u32) -> Self {
        let mut connection = Self::new(State::Dialing(id), None, window);
        connection.send.heard(request.buf_alloc, request.fwd_cnt);
        connection
    }

    fn new(state: State, stream: Option<S>, window: u32) -> Self {
        Self {
            state,
            stream,
            to_guest: Vec::new(),
            taken: 0,
            readable: false,
            to_host: VecDeque::new(),
            send: Send::default(),
            receive: Receive::new(window),
            window: usize::try_from(window).unwrap_or(usize::MAX),
            batch: usize::try_from(window).unwrap_or(BATCH).min(BATCH),
            owes_response: false,
            owes_credit: false,
            asked_credit: false,
            host: Ended::default(),
            guest: Ended::default(),
            told: 0,
        }
    }

    pub(super) fn stream(&self) -> Option<&S> {
        self.stream.as_ref()
    }

    /// The host answered the guest's request.
    pub(super) fn dialed(&mut self, stream: S) {
        self.stream = Some(stream);
        self.state = State::Open;
        self.owes_response = true;
        self.readable = true;
    }

    /// The guest accepted the host's request.
    pub(super) fn accepted(&mut self, response: &Header) {
        self.send.heard(response.buf_alloc, response.fwd_cnt);
        self.state = State::Open;
        self.readable = true;
    }

    /// Every packet of the guest brings its window.
    pub(super) fn heard(&mut self, header: &Header) {
        self.send.heard(header.buf_alloc, header.fwd_cnt);
        if self.send.available() > 0 {
            self.asked_credit = false;
        }
    }

    pub(super) fn owe_credit(&mut self) {
        self.owes_credit = true;
    }

    /// Whether the guest may send `len` bytes now; counts them if so.
    pub(super) fn begin_data(&mut self, len: u32) -> Result<(), Violation> {
        if !matches!(self.state, State::Open | State::Lingering(_)) {
            return Err(Violation::NotOpen);
        }
        if self.guest.sending {
            return Err(Violation::DataAfterEnd);
        }
        Ok(self.receive.receive(len)?)
    }

    /// Bytes of the guest, already counted by [`Connection::begin_data`].
    pub(super) fn guest_data(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.to_host.is_empty() && !self.host.receiving {
            let sent = self.send_to_host(bytes);
            rest = bytes.get(sent..).unwrap_or_default();
        }
        if self.host.receiving {
            // The host reads no more: the bytes are gone, their credit is not.
            self.forwarded(rest.len());
        } else {
            self.keep(rest);
        }
    }

    /// Bytes that the host does not take yet. Their buffer grows as they do, and is never larger than the window.
    fn keep(&mut self, bytes: &[u8]) {
        let length = self.to_host.len().saturating_add(bytes.len());
        if length > self.to_host.capacity() {
            let capacity = self.to_host.capacity().saturating_mul(2).min(self.window).max(length);
            self.to_host.reserve_exact(capacity.saturating_sub(self.to_host.len()));
        }
        self.to_host.extend(bytes);
    }

    /// Writes as much as the stream takes now.
    fn send_to_host(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0_usize;
        while let (Some(stream), Some(rest)) = (self.stream.as_mut(), bytes.get(sent..)) {
            if rest.is_empty() {
                break;
            }
            match stream.send(rest) {
                Ok(count) if count > 0 => sent = sent.saturating_add(count),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    self.host_reads_no_more();
                    break;
                }
                Ok(_) | Err(_) => break,
            }
        }
        self.forwarded(sent);
        sent
    }

    fn forwarded(&mut self, count: usize) {
        self.receive.forward(u32::try_from(count).unwrap_or(u32::MAX));
        self.owes_credit |= self.receive.should_tell();
    }

    fn host_reads_no_more(&mut self) {
        if !self.host.receiving {
            self.host.receiving = true;
            let dropped = self.to_host.len();
            self.to_host = VecDeque::new();
            self.forwarded(dropped);
        }
    }

    /// The stream takes bytes again.
    pub(super) fn flush(&mut self) {
        while !self.to_host.is_empty() {
            let (front, _) = self.to_host.as_slices();
            let chunk: Vec<u8> = front.iter().take(BATCH).copied().collect();
            let sent = self.send_to_host(&chunk);
            if sent == 0 {
                break;
            }
            // After an error the buffer is already empty.
            self.to_host.drain(..sent.min(self.to_host.len()));
        }
        if self.to_host.is_empty() {
            // An idle connection keeps no buffer.
            self.to_host = VecDeque::new();
        }
        self.pass_on_end();
    }

    /// The guest will send or receive no more.
    pub(super) fn guest_shut_down(&mut self, flags: u32) {
        self.guest.sending |= flags & SHUTDOWN_SEND != 0;
        if flags & SHUTDOWN_RECEIVE != 0 && !self.guest.receiving {
            self.guest.receiving = true;
            self.to_guest = Vec::new();
            self.taken = 0;
            if let Some(stream) = self.stream.as_mut() {
                stream.end_receiving();
            }
        }
        self.pass_on_end();
    }

    /// The guest is gone: nobody reads what the host sends, and the host gets what the guest has sent. Nothing is sent yet:
    /// a reset is a vCPU's doing, and vCPUs do not send to sockets.
    pub(super) fn guest_left(&mut self) {
        self.guest_shut_down(SHUTDOWN_BOTH);
        self.host.sending = true;
    }

    /// The host sees the end of the guest's bytes once it has read all of them.
    fn pass_on_end(&mut self) {
        if self.guest.sending && self.to_host.is_empty() && !self.host.receiving {
            if let Some(stream) = self.stream.as_mut() {
                stream.end_sending();
            }
            self.host.receiving = true;
            self.told |= SHUTDOWN_RECEIVE;
        }
    }

    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// The host closed its end altogether. While it knocks, that means that it has given up, unless it has said
    /// something before: then its words may still be wanted.
    pub(super) fn host_hung_up(&mut self) {
        self.readable = true;
        self.host_reads_no_more();
    }

    pub(super) fn host_has_said_something(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::holds_bytes)
    }

    /// The guest is gone; whether the host has still to read something.
    pub(super) fn has_bytes_for_host(&self) -> bool {
        !self.to_host.is_empty() && self.stream.is_some()
    }

    /// Reads from the stream until it is dry, a batch waits, or the guest has no room. What waits has a buffer of just its
    /// size: there may be many connections whose guest takes nothing.
    fn pull(&mut self, scratch: &mut [u8]) {
        if !self.waiting().is_empty() || !self.readable || self.host.sending {
            return;
        }
        if self.guest.receiving {
            return self.discard();
        }
        let room = usize::try_from(self.send.available()).unwrap_or(self.batch).min(self.batch);
        if room == 0 {
            return;
        }
        let room = room.min(scratch.len());
        let received = self.read(scratch.get_mut(..room).unwrap_or_default());
        self.to_guest = scratch.get(..received).unwrap_or_default().to_vec();
        self.taken = 0;
    }

    /// The guest wants nothing more: a host that goes on sending is not to be held back for ever.
    fn discard(&mut self) {
        let mut nowhere = [0; 4096];
        for _ in 0..DISCARDS {
            if self.read(&mut nowhere) == 0 {
                return;
            }
        }
        // The poller says whether there is more.
        self.readable = false;
    }

    /// Bytes from the stream; none when it is dry or has ended, which is noted.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(stream) = self.stream.as_mut() else { return 0 };
        match stream.receive(buffer) {
            Ok(0) => self.host.sending = true,
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {
                self.host.sending = true;
                self.host_reads_no_more();
            }
        }
        0
    }

    /// Bytes for the guest.
    pub(super) fn waiting(&self) -> &[u8] {
        self.to_guest.get(self.taken..).unwrap_or_default()
    }

    /// The OP_SHUTDOWN flags that hold by now.
    fn shutdown_flags(&self) -> u32 {
        let mut flags = self.told;
        if self.host.sending && self.waiting().is_empty() {
            flags |= SHUTDOWN_SEND;
        }
        if self.host.receiving {
            flags |= SHUTDOWN_RECEIVE;
        }
        flags
    }

    /// What the guest gets next. Data stays until [`Connection::take`]; it comes from the stream through `scratch`, which
    /// has room for a batch.
    pub(super) fn next(&mut self, scratch: &mut [u8]) -> Option<Op> {
        match &self.state {
            State::Knocking(knock) => return knock.is_due().then_some(Op::Request),
            State::Dialing(_) | State::Lingering(_) => return None,
            State::Open => {}
        }
        if self.owes_response {
            return Some(Op::Response);
        }
        self.pull(scratch);
        if !self.waiting().is_empty() && !self.guest.receiving {
            if self.send.available() > 0 {
                return Some(Op::Data);
            }
            if !self.asked_credit {
                return Some(Op::CreditRequest);
            }
        }
        if self.shutdown_flags() != self.told || self.is_over() {
            return Some(Op::Shutdown);
        }
        self.owes_credit.then_some(Op::CreditUpdate)
    }

    /// Both directions have ended, and nothing waits in either.
    fn is_over(&self) -> bool {
        let to_guest = self.guest.receiving || (self.host.sending && self.waiting().is_empty());
        let to_host = self.guest.sending || self.host.receiving;
        to_guest && to_host && self.to_host.is_empty()
    }

    /// Makes `op`, as [`Connection::next`] named it, the packet that goes out: with at most `room` bytes.
    pub(super) fn take(&mut self, op: Op, room: usize, now: Instant) -> Outgoing {
        let mut outgoing = Outgoing { op, flags: 0, len: 0 };
        match op {
            Op::Request => {
                if let State::Knocking(knock) = &mut self.state {
                    knock.sent();
                }
            }
            Op::Response => self.owes_response = false,
            Op::CreditRequest => self.asked_credit = true,
            Op::Data => {
                let credit = usize::try_from(self.send.available()).unwrap_or(usize::MAX);
                outgoing.len = self.waiting().len().min(room).min(credit);
                self.send.send(u32::try_from(outgoing.len).unwrap_or(u32::MAX));
            }
            Op::Shutdown => {
                if self.is_over() {
                    self.state = State::Lingering(later(now, LINGERING));
                    self.told = SHUTDOWN_BOTH;
                } else {
                    self.told = self.shutdown_flags();
                }
                outgoing.flags = self.told;
            }
            Op::Reset | Op::CreditUpdate | Op::Unknown(_) => {}
        }
        // Every packet tells the guest its credit.
        self.owes_credit = false;
        outgoing
    }

    /// The bytes of the last [`Op::Data`] are in the guest's memory.
    pub(super) fn delivered(&mut self, len: usize) {
        self.taken = self.taken.saturating_add(len);
    }

    /// `buf_alloc` and `fwd_cnt` for the packet that goes out now.
    pub(super) fn credit(&mut self) -> (u32, u32) {
        self.receive.tell()
    }

    /// What to hear of the stream. Reading is not asked for while bytes wait or the guest has no room: it would be
    /// reported again and again.
    pub(super) fn interest(&self) -> Interest {
        let open = matches!(self.state, State::Open);
        let wants_more = open && !self.readable && !self.host.sending;
        Interest { read: wants_more, write: !self.to_host.is_empty() }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.state {
            State::Knocking(knock) => knock.wake_at(),
            State::Lingering(until) => Some(*until),
            State::Dialing(_) | State::Open => None,
        }
    }
}

#[cfg(test)]
mod tests;
