//! What goes to the guest next: answers first, then the connections in turn.

use std::time::Instant;

use super::super::limits::BATCH;
use super::super::packet::{Header, Op};
use super::{Key, Muxer};

/// What stands next, to be taken with [`Muxer::take_packet`] once there is a buffer for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Next {
    Answer,
    Of(Key, Op),
}

impl Muxer {
    /// What the guest gets next, if anything.
    pub(in super::super) fn next_packet(&mut self) -> Option<Next> {
        if !self.answers.is_empty() {
            return Some(Next::Answer);
        }
        if self.turn >= BATCH {
            self.turn = 0;
            self.ready.rotate_left(usize::from(!self.ready.is_empty()));
        }
        while let Some(&key) = self.ready.front() {
            let entry = self.connections.get_mut(&key);
            let op = entry.and_then(|entry| entry.connection.next(&mut self.scratch));
            if let Some(op) = op {
                return Some(Next::Of(key, op));
            }
            self.ready.pop_front();
            self.turn = 0;
            self.stand_down(key);
        }
        None
    }

    /// The connection has nothing for the guest until something happens.
    fn stand_down(&mut self, key: Key) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        // What settles it now must not put it back into the queue that it has just left.
        entry.queued = true;
        self.settle(key);
        if let Some(entry) = self.connections.get_mut(&key) {
            entry.queued = false;
        }
    }

    /// Takes what [`Muxer::next_packet`] named: `write` gets the header and the data, of at most `room` bytes, and
    /// puts them into the guest's memory.
    pub(in super::super) fn take_packet(
        &mut self,
        next: Next,
        room: usize,
        now: Instant,
        write: impl FnOnce(&Header, &[u8]),
    ) {
        let (key, op) = match next {
            Next::Answer => {
                if let Some(header) = self.answers.pop_front() {
                    write(&header, &[]);
                }
                return;
            }
            Next::Of(key, op) => (key, op),
        };
        let mut header = self.header(key, op);
        let Some(entry) = self.connections.get_mut(&key) else { return };
        let outgoing = entry.connection.take(op, room, now);
        header.flags = outgoing.flags;
        header.len = u32::try_from(outgoing.len).unwrap_or(u32::MAX);
        (header.buf_alloc, header.fwd_cnt) = entry.connection.credit();
        let data = match op {
            Op::Data => entry.connection.waiting().get(..outgoing.len).unwrap_or_default(),
            _ => &[],
        };
        write(&header, data);
        if op == Op::Data {
            entry.connection.delivered(outgoing.len);
            self.turn = self.turn.saturating_add(outgoing.len);
        }
    }
}
