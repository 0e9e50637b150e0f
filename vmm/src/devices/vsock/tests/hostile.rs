//! What has to hold for any guest.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::guest::{FROM_GUEST, Guest, INDIRECT, MEMORY, NEXT, WRITE, again, request};
use crate::devices::vsock::limits::{ANSWERS, CONNECTIONS, DIALS, WINDOW};
use crate::devices::vsock::packet::{HEADER_SIZE, Header, Op};

/// The device still works: a new connection is asked for.
fn still_works(guest: &mut Guest) {
    assert!(!guest.device.needs_reset());
    let (_ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(9, Vec::new(), theirs.into());
    guest.until(Op::Request);
}

#[test]
fn more_than_the_credit_resets_that_connection_only() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    let (mut other, theirs) = guest.connected(8, 1 << 20);
    let data = vec![0; 100_000];
    // The socket takes some of it at once, so go far beyond both.
    for _ in 0..12 {
        guest.send(again(&accepted, Op::Data, data.len()), &data);
    }
    let (reset, _) = guest.until(Op::Reset);
    assert_eq!(reset.dst_port, 7);
    let mut got = Vec::new();
    ours.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let _ = ours.read_to_end(&mut got);
    guest.send(again(&theirs, Op::Data, 2), b"on");
    guest.turn();
    other.read_exact(&mut [0; 2]).unwrap();
    still_works(&mut guest);
}

#[test]
fn a_length_beyond_the_buffers_resets_the_connection() {
    let mut guest = Guest::awake();
    for len in [101, WINDOW as usize, u32::MAX as usize] {
        let (_ours, accepted) = guest.connected(7, 1 << 20);
        guest.send(again(&accepted, Op::Data, len), &[1; 100]);
        guest.until(Op::Reset);
    }
    still_works(&mut guest);
}

#[test]
fn packets_that_mean_nothing_are_reset_and_those_of_others_ignored() {
    let mut guest = Guest::awake();
    for op in [Op::Response, Op::Data, Op::Shutdown, Op::CreditUpdate, Op::Unknown(0), Op::Unknown(99)] {
        guest.send(Header { op, ..request(50, 60) }, &[]);
        assert_eq!(guest.turn().first().map(|(header, _)| header.op), Some(Op::Reset), "{op:?}");
    }
    guest.send(Header { kind: 2, ..request(50, 60) }, &[]);
    assert_eq!(guest.turn()[0].0.op, Op::Reset, "no other type is offered");
    guest.send(Header { src_cid: 4, ..request(50, 60) }, &[]);
    guest.send(Header { dst_cid: 5, ..request(50, 60) }, &[]);
    guest.send(Header { op: Op::Reset, ..request(50, 60) }, &[]);
    assert!(guest.turn().is_empty());
    assert!(guest.dials.try_recv().is_err());
    still_works(&mut guest);
}

/// Where a request lies that the device would follow, if it took a broken chain for a good one.
const REQUEST: u64 = 0x200_0000;
const TABLE: u64 = 0x300_0000;

#[test]
fn chains_that_break_a_rule_cost_themselves_only() {
    let mut guest = Guest::awake();
    let packet = request(50, 60).encode();
    vm_memory::Bytes::write_slice(&guest.memory, &packet, vm_memory::GuestAddress(REQUEST)).unwrap();
    // An indirect table that leads to itself, one that goes on outside, and one that is longer than the ring.
    guest.write_descriptor(TABLE, REQUEST, 44, NEXT, 1);
    guest.write_descriptor(TABLE + 16, TABLE, 16, INDIRECT, 0);
    guest.write_descriptor(TABLE + 0x1000, REQUEST, 44, NEXT, 7);
    for number in 0..100 {
        let next = if number < 99 { NEXT } else { 0 };
        guest.write_descriptor(TABLE + 0x2000 + number * 16, REQUEST, 44, next, number as u16 + 1);
    }
    // A descriptor to fill before one that is filled.
    guest.write_descriptor(TABLE + 0x3000, REQUEST + 0x1000, 44, NEXT | WRITE, 1);
    guest.write_descriptor(TABLE + 0x3010, REQUEST, 44, 0, 0);
    let broken: [(&str, u64, u32, u16, u16); 11] = [
        ("a loop", REQUEST, 44, NEXT, 0),
        ("a next one outside the table", REQUEST, 44, NEXT, 64),
        ("a buffer that leaves memory", MEMORY - 10, 44, 0, 0),
        ("a buffer that wraps around", u64::MAX - 10, 44, 0, 0),
        ("more than there is", REQUEST, u32::MAX, 0, 0),
        ("nothing", REQUEST, 0, 0, 0),
        ("less than a header", REQUEST, 43, 0, 0),
        ("a table outside memory", MEMORY, 16, INDIRECT, 0),
        ("a table in a table", TABLE, 32, INDIRECT, 0),
        ("a chain longer than the ring", TABLE + 0x2000, 1600, INDIRECT, 0),
        ("filled behind to be filled", TABLE + 0x3000, 32, INDIRECT, 0),
    ];
    for (what, address, len, flags, next) in broken {
        guest.descriptor(FROM_GUEST, 0, address, len, flags, next);
        guest.make_available(FROM_GUEST, guest.sent, 0);
        guest.sent += 1;
        assert!(guest.turn().is_empty(), "{what}");
        assert!(guest.dials.try_recv().is_err(), "{what} was followed");
        assert!(guest.has_all_buffers_back(), "{what} is given back");
    }
    still_works(&mut guest);
}

#[test]
fn an_indirect_chain_is_read() {
    let mut guest = Guest::awake();
    let packet = request(50, 60).encode();
    vm_memory::Bytes::write_slice(&guest.memory, &packet, vm_memory::GuestAddress(0x200_0000)).unwrap();
    guest.write_descriptor(0x300_0000, 0x200_0000, 40, NEXT, 1);
    guest.write_descriptor(0x300_0010, 0x200_0028, 4, 0, 0);
    guest.descriptor(FROM_GUEST, 0, 0x300_0000, 32, INDIRECT, 0);
    guest.make_available(FROM_GUEST, guest.sent, 0);
    guest.turn();
    assert_eq!(guest.dials.try_recv().unwrap().port, 60);
}

/// The device stops: what stood is over, and nobody waits for what cannot come.
fn stops_until_reset(guest: &mut Guest, ours: &mut UnixStream) {
    guest.kicked = true;
    guest.turn();
    assert!(guest.device.needs_reset());
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "its connections are over");
    let (mut late, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(9, Vec::new(), theirs.into());
    assert!(guest.turn().is_empty());
    assert_eq!(late.read(&mut [0]).unwrap(), 0, "a new one is refused at once");
    guest.reset();
    still_works(guest);
}

#[test]
fn an_index_far_ahead_is_a_broken_ring() {
    let mut guest = Guest::awake();
    let (mut ours, _) = guest.connected(7, 1 << 20);
    guest.make_available(FROM_GUEST, guest.sent.wrapping_add(1000), 0);
    stops_until_reset(&mut guest, &mut ours);
}

#[test]
fn a_head_outside_the_table_is_a_broken_ring() {
    let mut guest = Guest::awake();
    let (mut ours, _) = guest.connected(7, 1 << 20);
    guest.make_available(FROM_GUEST, guest.sent, 64);
    stops_until_reset(&mut guest, &mut ours);
}

#[test]
fn a_ring_whose_entries_cannot_be_read_is_broken_and_nothing_loops() {
    let mut guest = Guest::awake();
    let (mut ours, _) = guest.connected(7, 1 << 20);
    guest.move_available_ring(MEMORY - 4);
    let index = vm_memory::GuestAddress(MEMORY - 2);
    vm_memory::Bytes::write_obj(&guest.memory, guest.sent.wrapping_add(1), index).unwrap();
    stops_until_reset(&mut guest, &mut ours);
}

#[test]
fn rings_over_each_other_do_not_hold_the_device() {
    let mut guest = Guest::with(false);
    guest.wake();
    // The index of what is available is the word by which the device says whether it wants kicks.
    guest.move_available_ring(FROM_GUEST + 0x2_0000 - 2);
    guest.kicked = true;
    guest.turn();
    assert!(guest.reports(), "it comes back by itself");
    guest.reset();
    still_works(&mut guest);
}

#[test]
fn requests_without_end_are_bounded() {
    let mut guest = Guest::awake();
    let mut resets = 0;
    for port in 0..u32::try_from(DIALS + ANSWERS).unwrap() {
        guest.send(request(port, 60), &[]);
        resets += guest.turn().iter().filter(|(header, _)| header.op == Op::Reset).count();
    }
    assert_eq!(guest.dials.try_iter().count(), DIALS, "so many questions may be open");
    assert_eq!(resets, ANSWERS);
}

#[test]
fn requests_that_are_taken_back_are_bounded_by_what_the_owner_answers() {
    let mut guest = Guest::awake();
    let mut asked = Vec::new();
    for port in 0..u32::try_from(3 * DIALS).unwrap() {
        guest.send(request(port, 60), &[]);
        guest.send(Header { op: Op::Reset, ..request(port, 60) }, &[]);
        guest.turn();
        asked.extend(guest.dials.try_iter());
    }
    assert_eq!(asked.len(), DIALS);
    for dial in asked {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        guest.handle.dialed(dial.id, theirs.into());
        guest.turn();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "nobody wants it any more");
    }
    guest.send(request(50, 61), &[]);
    guest.turn();
    assert_eq!(guest.dials.try_recv().unwrap().port, 61, "there is room for questions again");
}

#[test]
fn a_guest_that_reads_no_answers_is_not_listened_to() {
    let mut guest = Guest::awake();
    guest.hoards = true;
    let mut port = 0;
    while guest.can_send() {
        guest.send(Header { op: Op::Data, ..request(port, 60) }, &[]);
        guest.turn();
        port += 1;
        assert!(port < 3 * u32::try_from(ANSWERS).unwrap(), "answers pile up");
    }
    guest.turn();
    assert!(!guest.reports(), "the device would spin");
    guest.stop_hoarding();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !guest.has_all_buffers_back() {
        assert!(Instant::now() < deadline, "packets are still not taken in");
        guest.turn();
    }
    still_works(&mut guest);
}

#[test]
fn connections_are_bounded_and_so_is_what_the_host_keeps_of_them() {
    let mut guest = Guest::awake();
    let mut windows = 0_u64;
    let mut streams = Vec::new();
    for port in 0..u32::try_from(CONNECTIONS).unwrap() {
        guest.send(request(port, 60), &[]);
        guest.turn();
        let dial = guest.dials.try_recv().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        guest.handle.dialed(dial.id, theirs.into());
        let (accepted, _) = guest.until(Op::Response);
        windows += u64::from(accepted.buf_alloc);
        streams.push(ours);
    }
    assert!(windows <= 46 << 20, "the guest may send {windows} bytes that nobody reads");
    guest.send(request(0xffff, 60), &[]);
    assert_eq!(guest.until(Op::Reset).0.dst_port, 0xffff);
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        0_u64..5,
        0_u64..4,
        0_u32..6,
        0_u32..6,
        any::<u32>(),
        (0_u16..3, 0_u16..9),
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(
            |(src_cid, dst_cid, src_port, dst_port, len, (kind, op), flags, buf_alloc, fwd_cnt)| {
                let mut bytes = [0; HEADER_SIZE];
                bytes[30..32].copy_from_slice(&op.to_le_bytes());
                let op = Header::decode(&bytes).op;
                // Mostly a guest that knows its address, or nothing else would be tried.
                let (src_cid, dst_cid) = (if src_cid == 0 { 9 } else { 3 }, if dst_cid == 0 { 9 } else { 2 });
                let (kind, len) =
                    (if kind == 0 { 7 } else { 1 }, if len % 2 == 0 { len % 5000 } else { len });
                Header {
                    src_cid,
                    dst_cid,
                    src_port,
                    dst_port,
                    len,
                    kind,
                    op,
                    flags: flags % 4,
                    buf_alloc,
                    fwd_cnt,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest sends, the device neither stops nor keeps a stream when the driver is gone.
    #[test]
    fn any_packets_leave_a_device_that_works(packets in prop::collection::vec((any_header(), 0_usize..3000, any::<bool>()), 1..120)) {
        let mut guest = Guest::awake();
        let mut streams = Vec::new();
        for (header, len, answer) in packets {
            guest.send(header, &vec![0; len]);
            guest.turn();
            while let Ok(dial) = guest.dials.try_recv() {
                if answer {
                    let (ours, theirs) = UnixStream::pair().unwrap();
                    guest.handle.dialed(dial.id, theirs.into());
                    streams.push(ours);
                } else {
                    guest.handle.refused(dial.id);
                }
            }
        }
        guest.turn();
        prop_assert!(!guest.device.needs_reset());
        guest.device.reset();
        for mut stream in streams {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            let mut rest = Vec::new();
            prop_assert!(stream.read_to_end(&mut rest).is_ok(), "a stream stayed open");
        }
    }
}
