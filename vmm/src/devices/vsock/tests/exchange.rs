//! Whatever both sides do within the rules, in whatever order: what one sends the other gets, once and in order, and
//! when both have ended nothing is left.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::guest::{Guest, Packet, again};
use crate::devices::vsock::packet::{Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

#[derive(Debug, Clone, Copy)]
enum Step {
    HostWrites(usize),
    HostReads(usize),
    GuestSends(usize),
    /// The guest's program reads so much, and its driver says so.
    GuestReads(usize),
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![1_usize..200, 1000_usize..100_000];
    let step = prop_oneof![
        size.clone().prop_map(Step::HostWrites),
        size.clone().prop_map(Step::HostReads),
        size.clone().prop_map(Step::GuestSends),
        size.prop_map(Step::GuestReads),
        Just(Step::Turn),
    ];
    prop::collection::vec(step, 1..80)
}

/// Byte number `at` of what a side sends.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(pattern).collect()
}

/// One connection, and what each side knows of it.
struct Exchange {
    guest: Guest,
    host: UnixStream,
    /// The ports, as the guest's packets have them.
    header: Header,
    /// What the guest's socket can hold.
    window: u32,
    host_wrote: usize,
    host_got: usize,
    guest_sent: usize,
    guest_got: usize,
    /// Of these its program has read so many.
    guest_read: usize,
    /// Our window as the guest last heard of it: all that it may have sent by now.
    credit: usize,
    host_ended: bool,
    guest_was_told: u32,
    is_reset: bool,
}

impl Exchange {
    fn new(event_idx: bool, window: u32) -> Self {
        let mut guest = Guest::with(event_idx);
        guest.wake();
        let (host, header) = guest.connected(7, window);
        host.set_nonblocking(true).unwrap();
        let mut exchange = Self {
            guest,
            host,
            header,
            window,
            host_wrote: 0,
            host_got: 0,
            guest_sent: 0,
            guest_got: 0,
            guest_read: 0,
            credit: 0,
            host_ended: false,
            guest_was_told: 0,
            is_reset: false,
        };
        exchange.send(Op::CreditRequest, 0, &[]);
        exchange.turn();
        exchange
    }

    fn send(&mut self, op: Op, flags: u32, data: &[u8]) {
        let header = Header { flags, fwd_cnt: self.guest_read as u32, ..again(&self.header, op, data.len()) };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.guest.can_send() {
            assert!(Instant::now() < deadline, "packets of the guest are not taken in");
            self.turn();
        }
        self.guest.send(header, data);
    }

    fn turn(&mut self) {
        self.guest.now = self.guest.now.max(Instant::now());
        self.turn_at_once();
    }

    /// No time goes by for the device, which would not wait for ever at the end.
    fn turn_at_once(&mut self) {
        for packet in self.guest.turn() {
            self.hear(packet);
        }
    }

    fn hear(&mut self, (header, data): Packet) {
        let credit = header.buf_alloc as usize + header.fwd_cnt as usize;
        assert!(credit >= self.credit || header.op == Op::Reset, "credit was taken back");
        self.credit = credit;
        match header.op {
            Op::Data => {
                assert_eq!(data, bytes(self.guest_got, data.len()), "the guest got something else");
                self.guest_got += data.len();
                assert!(
                    self.guest_got - self.guest_read <= self.window as usize,
                    "more than the guest's window"
                );
            }
            Op::Shutdown => self.guest_was_told |= header.flags,
            Op::CreditRequest => self.send(Op::CreditUpdate, 0, &[]),
            Op::Reset => self.is_reset = true,
            Op::CreditUpdate => {}
            other => panic!("{other:?} on a connection that stands"),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::HostWrites(count) => {
                let data = bytes(self.host_wrote, count);
                match self.host.write(&data) {
                    Ok(written) => self.host_wrote += written,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Step::HostReads(count) => self.host_reads(count),
            Step::GuestSends(count) => {
                let count = count.min(self.credit - self.guest_sent);
                if count > 0 {
                    let data = bytes(self.guest_sent, count);
                    self.send(Op::Data, 0, &data);
                    self.guest_sent += count;
                }
            }
            Step::GuestReads(count) => {
                self.guest_read += count.min(self.guest_got - self.guest_read);
                self.send(Op::CreditUpdate, 0, &[]);
            }
            Step::Turn => self.turn(),
        }
    }

    fn host_reads(&mut self, count: usize) {
        let mut buffer = vec![0; count];
        match self.host.read(&mut buffer) {
            Ok(0) => self.host_ended = true,
            Ok(got) => {
                assert_eq!(buffer[..got], bytes(self.host_got, got), "the host got something else");
                self.host_got += got;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// Both stop sending and read to the end.
    fn finish(mut self, guest_first: bool) {
        let mut guest_ended = guest_first;
        if guest_first {
            self.send(Op::Shutdown, SHUTDOWN_SEND, &[]);
            self.turn_at_once();
        }
        self.host.shutdown(Shutdown::Write).unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.guest_was_told & SHUTDOWN_SEND == 0 || !self.host_ended {
            assert!(
                Instant::now() < deadline,
                "stuck: {} of {} bytes to the guest, {} of {} to the host",
                self.guest_got,
                self.host_wrote,
                self.host_got,
                self.guest_sent
            );
            self.take(Step::HostReads(100_000));
            self.take(Step::GuestReads(usize::MAX));
            self.turn_at_once();
            if !guest_ended && self.guest_was_told & SHUTDOWN_SEND != 0 {
                guest_ended = true;
                self.send(Op::Shutdown, SHUTDOWN_SEND, &[]);
            }
        }
        assert_eq!(self.guest_got, self.host_wrote, "bytes were lost on the way to the guest");
        assert_eq!(self.host_got, self.guest_sent, "bytes were lost on the way to the host");
        while self.guest_was_told & SHUTDOWN_RECEIVE == 0 {
            assert!(Instant::now() < deadline, "the guest never heard that it is over");
            self.turn_at_once();
        }
        assert!(!self.is_reset, "an orderly end is no reset");
        self.send(Op::Reset, 0, &[]);
        self.turn_at_once();
        assert_eq!(self.guest.device.connections(), 0, "nothing is left");
        while !self.guest.has_all_buffers_back() {
            assert!(Instant::now() < deadline, "buffers did not come back");
            self.turn_at_once();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_one_side_sends_the_other_gets(steps in steps(), event_idx in any::<bool>(), window in 1_u32..300_000, guest_first in any::<bool>()) {
        let mut exchange = Exchange::new(event_idx, window);
        for step in steps {
            exchange.take(step);
        }
        exchange.finish(guest_first);
    }
}
