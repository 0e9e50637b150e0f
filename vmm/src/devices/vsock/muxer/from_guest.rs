//! Packets of the guest.

use std::io::Read;
use std::time::Instant;

use super::super::connection::{Connection, State};
use super::super::handle::Dial;
use super::super::limits::{ANSWERS, DIALS};
use super::super::packet::{HOST_CID, Header, Op, SHUTDOWN_BOTH, TYPE_STREAM};
use super::{Key, Muxer, NO_PORT};

impl Muxer {
    /// Whether another packet may be taken in: not while answers to earlier ones wait for the guest to read them.
    pub(in super::super) fn takes_packets(&self) -> bool {
        self.answers.len() < ANSWERS
    }

    /// Takes a packet in. `payload` gives `header.len` bytes; where it gives fewer the connection is reset.
    pub(in super::super) fn guest_packet(&mut self, header: &Header, payload: &mut dyn Read, now: Instant) {
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            // Nobody whom an answer would reach.
            if let Some(held_back) = self.complaints.foreign.open() {
                tracing::warn!(
                    src = header.src_cid,
                    dst = header.dst_cid,
                    held_back,
                    "vsock packet for another host"
                );
            }
            return;
        }
        let key = Key { guest: header.src_port, host: header.dst_port };
        if header.op == Op::Reset {
            self.guest_reset(key, now);
            return;
        }
        if header.kind != TYPE_STREAM || key.guest == NO_PORT {
            self.reset(key, "the guest wants another type than a stream, or has no port");
            return;
        }
        if let Some(entry) = self.connections.get_mut(&key) {
            entry.connection.heard(header);
            self.known(key, header, payload);
        } else if header.op == Op::Request {
            self.guest_request(key, header);
        } else {
            self.answer_reset(key);
        }
    }

    fn known(&mut self, key: Key, header: &Header, payload: &mut dyn Read) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        match header.op {
            Op::Response => match entry.connection.state {
                State::Knocking(ref knock) if knock.is_unanswered() => entry.connection.accepted(header),
                _ => return self.reset(key, "the guest accepted what nobody asked"),
            },
            Op::Data => return self.guest_data(key, header.len, payload),
            Op::Shutdown => return self.guest_shutdown(key, header.flags),
            Op::CreditRequest => entry.connection.owe_credit(),
            Op::CreditUpdate => {}
            Op::Request => return self.guest_request_again(key, header),
            Op::Reset | Op::Unknown(_) => return self.reset(key, "the guest's packet has no known meaning"),
        }
        self.settle(key);
    }

    fn guest_data(&mut self, key: Key, len: u32, payload: &mut dyn Read) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if let Err(violation) = entry.connection.begin_data(len) {
            self.reset(key, &format!("the guest {violation}"));
            return;
        }
        let mut rest = usize::try_from(len).unwrap_or(usize::MAX);
        while rest > 0 {
            let want = rest.min(self.scratch.len());
            let piece = self.scratch.get_mut(..want).unwrap_or_default();
            if payload.read_exact(piece).is_err() {
                self.reset(key, "the guest announced more bytes than its buffers hold");
                return;
            }
            entry.connection.guest_data(piece);
            rest = rest.saturating_sub(want);
        }
        self.settle(key);
    }

    fn guest_shutdown(&mut self, key: Key, flags: u32) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if !matches!(entry.connection.state, State::Open | State::Lingering(_)) {
            self.reset(key, "the guest ended a connection that does not stand");
            return;
        }
        entry.connection.guest_shut_down(flags);
        if flags & SHUTDOWN_BOTH == SHUTDOWN_BOTH || matches!(entry.connection.state, State::Lingering(_)) {
            // The guest has closed its socket and waits for the confirmation (5.10.6.5).
            self.remove(key);
            self.answer_reset(key);
            return;
        }
        self.settle(key);
    }

    /// A reset while the host knocks says that nobody listens yet; otherwise the connection is over.
    fn guest_reset(&mut self, key: Key, now: Instant) {
        let Some(State::Knocking(knock)) = self.state(key) else {
            self.remove(key);
            return;
        };
        if knock.is_unanswered() {
            knock.refused(now);
            self.settle(key);
        }
    }

    fn guest_request(&mut self, key: Key, header: &Header) {
        if self.is_full() || self.dials.len() >= DIALS {
            self.reset(key, "too many connections");
            return;
        }
        let id = self.next_dial;
        self.next_dial = self.next_dial.wrapping_add(1);
        self.dials.insert(id, Some(key));
        self.insert(key, Connection::from_guest(id, header, self.window()));
        self.owner.ask(Dial { id, port: key.host });
    }

    /// The guest uses the ports of a connection that it has done with, or breaks one that stands.
    fn guest_request_again(&mut self, key: Key, header: &Header) {
        if let Some(State::Lingering(_)) = self.state(key) {
            self.remove(key);
            self.guest_request(key, header);
        } else {
            self.reset(key, "the guest asked for a connection that it has");
        }
    }
}
