//! What has to hold for a guest that follows the rules.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::guest::{Guest, again, reply, request};
use crate::devices::vsock::limits::{BATCH, KNOCKING, LINGERING, WINDOW};
use crate::devices::vsock::packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

#[test]
fn a_connection_made_before_the_driver_waits_and_knocks_until_somebody_listens() {
    let mut guest = Guest::asleep();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, b"first ".to_vec(), theirs.into());
    ours.write_all(b"then").unwrap();
    guest.device.process_host(guest.now);
    guest.wake();
    for _ in 0..3 {
        let (knock, _) = guest.until(Op::Request);
        guest.send(reply(&knock, Op::Reset), &[]);
    }
    let (knock, _) = guest.until(Op::Request);
    guest.send(reply(&knock, Op::Response), &[]);
    let (_, preamble) = guest.until(Op::Data);
    assert_eq!(preamble, b"first ");
    let (_, data) = guest.until(Op::Data);
    assert_eq!(data, b"then");
}

#[test]
fn a_listener_joins_each_connection_and_closes_on_unlisten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut guest = Guest::awake();
    guest.handle.listen(2, UnixListener::bind(&path).unwrap().into());
    guest.turn();
    let _one = UnixStream::connect(&path).unwrap();
    assert_eq!(guest.until(Op::Request).0.dst_port, 2);
    let _two = UnixStream::connect(&path).unwrap();
    assert_eq!(guest.until(Op::Request).0.dst_port, 2);
    guest.handle.unlisten(2);
    guest.turn();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn the_directions_end_apart_and_the_guest_confirms() {
    // Cloud Hypervisor #8372: the end of one direction ended both.
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    ours.write_all(b"question").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.until(Op::Data).1, b"question");
    let (end, _) = guest.until(Op::Shutdown);
    assert_eq!(end.flags, SHUTDOWN_SEND, "only one direction is over");

    guest.send(again(&accepted, Op::Data, 6), b"answer");
    let mut goodbye = again(&accepted, Op::Shutdown, 0);
    goodbye.flags = SHUTDOWN_SEND;
    guest.send(goodbye, &[]);
    let (end, _) = guest.until(Op::Shutdown);
    assert_eq!(end.flags, SHUTDOWN_BOTH);
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    guest.send(again(&accepted, Op::Reset, 0), &[]);
    assert!(guest.turn().is_empty(), "a reset is not answered");
}

#[test]
fn a_guest_that_closes_gets_a_reset_and_its_bytes_still_arrive() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    let data = vec![5; 60_000];
    for _ in 0..4 {
        guest.send(again(&accepted, Op::Data, data.len()), &data);
    }
    let mut close = again(&accepted, Op::Shutdown, 0);
    close.flags = SHUTDOWN_BOTH;
    guest.send(close, &[]);
    guest.until(Op::Reset);
    // A slow reader: the socket's buffer held less than was sent.
    let mut total = 0;
    let mut buffer = vec![0; 10_000];
    loop {
        let count = ours.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        total += count;
        guest.turn();
    }
    assert_eq!(total, 4 * data.len());
}

/// A vCPU that resets the device is confined to calls that a reset needs, and sending is not one of them.
#[test]
fn a_reset_sends_nothing_and_the_bytes_of_the_guest_still_arrive() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    ours.set_nonblocking(true).unwrap();
    let data = vec![5; 60_000];
    for _ in 0..4 {
        guest.send(again(&accepted, Op::Data, data.len()), &data);
        guest.turn();
    }
    let mut buffer = vec![0; 100_000];
    let mut total = 0;
    let mut read_all = || {
        while let Ok(count @ 1..) = ours.read(&mut buffer) {
            total += count;
        }
        total
    };
    let before = read_all();
    assert!(before < 4 * data.len(), "the socket holds all of it, so this tests nothing");
    guest.device.reset();
    assert_eq!(read_all(), before, "the reset has sent something");
    guest.device.process_host(guest.now);
    assert_eq!(read_all(), 4 * data.len());
}

#[test]
fn a_slow_host_holds_the_guest_back_by_credit_and_loses_nothing() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    ours.set_nonblocking(true).unwrap();
    let (mut sent, mut forwarded, mut got) = (0_u32, 0_u32, 0_u32);
    let mut buffer = vec![0; 100_000];
    let deadline = Instant::now() + Duration::from_secs(120);
    while got < 4 * WINDOW {
        assert!(Instant::now() < deadline, "stuck after {got} bytes");
        while sent - forwarded + 32_768 <= WINDOW && sent < 4 * WINDOW {
            guest.send(again(&accepted, Op::Data, 32_768), &vec![(sent >> 15) as u8; 32_768]);
            sent += 32_768;
            for (header, _) in guest.turn() {
                assert_eq!(header.op, Op::CreditUpdate, "a guest within its credit is not reset");
                forwarded = header.fwd_cnt;
            }
        }
        if let Ok(count) = ours.read(&mut buffer) {
            for (offset, &byte) in buffer[..count].iter().enumerate() {
                assert_eq!(byte, ((got + offset as u32) >> 15) as u8, "the order is kept");
            }
            got += count as u32;
        }
        for (header, _) in guest.turn() {
            forwarded = header.fwd_cnt;
        }
    }
    assert_eq!(got, 4 * WINDOW);
}

#[test]
fn waiting_data_without_credit_is_not_polled_again_and_again() {
    // Firecracker #6031: EPOLLIN re-armed while data waits.
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 100);
    ours.write_all(&[1; 1000]).unwrap();
    let (_, data) = guest.until(Op::Data);
    assert_eq!(data.len(), 100, "as much as the guest has room for");
    guest.turn();
    assert!(!guest.reports(), "the device would spin");
    let mut update = again(&accepted, Op::CreditUpdate, 0);
    update.fwd_cnt = 100;
    guest.send(update, &[]);
    assert_eq!(guest.until(Op::Data).1.len(), 100);
}

#[test]
fn a_connection_that_is_gone_with_bytes_for_the_host_does_not_spin() {
    // Firecracker #6077: a dropped connection's buffer keeps EPOLLOUT armed.
    let mut guest = Guest::awake();
    let (ours, accepted) = guest.connected(7, 1 << 20);
    for _ in 0..4 {
        guest.send(again(&accepted, Op::Data, 60_000), &[0; 60_000]);
    }
    guest.turn();
    guest.send(again(&accepted, Op::Reset, 0), &[]);
    guest.turn();
    guest.turn();
    assert!(!guest.reports(), "a reader that does nothing costs nothing");
    drop(ours);
    guest.turn();
    guest.turn();
    assert!(!guest.reports(), "the last trace of the connection is gone");
}

#[test]
fn a_host_that_is_gone_ends_the_guests_connection() {
    let mut guest = Guest::awake();
    let (ours, accepted) = guest.connected(7, 1 << 20);
    drop(ours);
    let (end, _) = guest.until(Op::Shutdown);
    assert_eq!(end.flags, SHUTDOWN_BOTH);
    guest.turn();
    guest.turn();
    assert!(!guest.reports(), "a hang-up that is known is reported again and again");
    guest.send(again(&accepted, Op::Reset, 0), &[]);
    guest.turn();
    assert!(!guest.reports());
}

#[test]
fn a_client_that_gives_up_while_knocking_is_forgotten() {
    let mut guest = Guest::awake();
    let (ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, Vec::new(), theirs.into());
    let (knock, _) = guest.until(Op::Request);
    drop(ours);
    guest.until(Op::Reset);
    guest.send(reply(&knock, Op::Response), &[]);
    guest.until(Op::Reset);
}

#[test]
fn what_the_guest_dials_is_asked_and_follows_the_answer() {
    let mut guest = Guest::awake();
    guest.send(request(40, 65_616), &[]);
    guest.turn();
    let dial = guest.dials.try_recv().unwrap();
    assert_eq!(dial.port, 65_616);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.dialed(dial.id, theirs.into());
    guest.until(Op::Response);
    guest.send(again(&request(40, 65_616), Op::Data, 2), b"hi");
    guest.turn();
    ours.read_exact(&mut [0; 2]).unwrap();

    guest.send(request(41, 22), &[]);
    guest.turn();
    let dial = guest.dials.try_recv().unwrap();
    guest.handle.refused(dial.id);
    assert_eq!(guest.until(Op::Reset).0.dst_port, 41);
}

#[test]
fn header_and_data_may_be_cut_anywhere() {
    // Guests from 6.3 use one descriptor (Cloud Hypervisor v35), from 6.17 many (Firecracker #5485: a part that could not be
    // sent was sent twice); older ones put the header apart.
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    let data: Vec<u8> = (0..200).collect();
    let packet = [&again(&accepted, Op::Data, 200).encode()[..], &data].concat();
    for cuts in [&[][..], &[44], &[44, 0, 100], &[1, 43, 1, 198], &[43, 2], &[20, 20, 20, 20]] {
        guest.send_bytes(&packet, cuts);
        guest.turn();
        let mut got = vec![0; 200];
        ours.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        ours.read_exact(&mut got).unwrap();
        assert_eq!(got, data, "cut at {cuts:?}");
    }
}

#[test]
fn a_driver_that_resets_the_device_loses_its_connections_but_not_those_that_knock() {
    let mut guest = Guest::awake();
    let (mut ours, _) = guest.connected(7, 1 << 20);
    let (_waiting, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(8, Vec::new(), theirs.into());
    guest.until(Op::Request);
    guest.reset();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the connection is over");
    assert_eq!(guest.until(Op::Request).0.dst_port, 8, "the other one knocks again");
}

#[test]
fn a_guest_that_never_listens_costs_a_client_the_deadline_and_no_more() {
    let mut guest = Guest::awake();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, Vec::new(), theirs.into());
    let (knock, _) = guest.until(Op::Request);
    guest.now += KNOCKING - Duration::from_secs(1);
    guest.kicked = true;
    assert!(guest.turn().is_empty(), "there is time left");
    guest.now += Duration::from_secs(2);
    guest.kicked = true;
    assert_eq!(guest.turn()[0].0.op, Op::Reset, "the guest is told");
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the client is told");
    guest.send(reply(&knock, Op::Response), &[]);
    assert_eq!(guest.turn()[0].0.op, Op::Reset, "too late");
}

#[test]
fn a_client_waits_no_longer_for_a_driver_that_has_gone() {
    let mut guest = Guest::awake();
    guest.device.reset();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, Vec::new(), theirs.into());
    guest.device.process_host(guest.now);
    assert_eq!(guest.device.connections(), 1);
    guest.device.process_host(guest.now + KNOCKING);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    assert_eq!(guest.device.connections(), 0);
}

#[test]
fn a_guest_that_does_not_confirm_an_end_is_not_waited_for() {
    let mut guest = Guest::awake();
    let (ours, accepted) = guest.connected(7, 1 << 20);
    drop(ours);
    assert_eq!(guest.until(Op::Shutdown).0.flags, SHUTDOWN_BOTH);
    assert_eq!(guest.device.connections(), 1);
    guest.now += LINGERING + Duration::from_secs(1);
    guest.kicked = true;
    assert_eq!(guest.turn()[0].0.op, Op::Reset);
    assert_eq!(guest.device.connections(), 0);
    guest.send(again(&accepted, Op::Data, 1), b"x");
    assert_eq!(guest.until(Op::Reset).0.dst_port, 7);
}

#[test]
fn words_of_a_client_that_has_left_before_the_guest_listened_still_arrive() {
    let mut guest = Guest::awake();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, Vec::new(), theirs.into());
    let (knock, _) = guest.until(Op::Request);
    ours.write_all(b"last words").unwrap();
    drop(ours);
    guest.turn();
    guest.send(reply(&knock, Op::Response), &[]);
    assert_eq!(guest.until(Op::Data).1, b"last words");
    assert_eq!(guest.until(Op::Shutdown).0.flags, SHUTDOWN_BOTH);
}

#[test]
fn a_preamble_larger_than_buffer_and_credit_arrives_whole() {
    let mut guest = Guest::awake();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let preamble: Vec<u8> = (0_u32..10_000).map(|at| (at % 251) as u8).collect();
    guest.handle.connect(7, preamble.clone(), theirs.into());
    let (knock, _) = guest.until(Op::Request);
    let mut answer = reply(&knock, Op::Response);
    answer.buf_alloc = 6000;
    guest.send(answer, &[]);
    let mut got = Vec::new();
    while got.len() < preamble.len() {
        let mut update = again(&answer, Op::CreditUpdate, 0);
        update.fwd_cnt = got.len() as u32;
        guest.send(update, &[]);
        got.extend(guest.until(Op::Data).1);
    }
    assert_eq!(got, preamble);
}

#[test]
fn a_guest_that_wants_to_read_no_more_does_not_hold_the_host_back() {
    // On TCP a writer is not told, so what it writes has to be taken.
    let mut guest = Guest::awake();
    guest.send(request(40, 65_616), &[]);
    guest.turn();
    let dial = guest.dials.try_recv().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut ours, _) = listener.accept().unwrap();
    guest.handle.dialed(dial.id, theirs.into());
    let (accepted, _) = guest.until(Op::Response);
    let mut enough = reply(&accepted, Op::Shutdown);
    enough.flags = SHUTDOWN_RECEIVE;
    guest.send(enough, &[]);
    guest.turn();
    let writing = std::thread::spawn(move || {
        ours.write_all(&vec![0; 32 << 20])?;
        ours.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).map(|_| rest)
    });
    while !writing.is_finished() {
        for (header, _) in guest.turn() {
            assert_ne!(header.op, Op::Data, "the guest does not want it");
            if header.op == Op::Shutdown && header.flags & SHUTDOWN_SEND != 0 {
                guest.send(again(&enough, Op::Data, 3), b"end");
                guest.send(Header { flags: SHUTDOWN_BOTH, ..enough }, &[]);
            }
        }
    }
    assert_eq!(writing.join().unwrap().unwrap(), b"end", "the other direction goes on");
}

#[test]
fn a_stalled_connection_does_not_hold_up_another() {
    let mut guest = Guest::awake();
    let (mut stalled, _) = guest.connected(7, 100);
    let (mut live, accepted) = guest.connected(8, 1 << 20);
    stalled.write_all(&[1; 50_000]).unwrap();
    for round in 0_u8..20 {
        live.write_all(&[round; 100]).unwrap();
        let data = loop {
            let (header, data) = guest.until(Op::Data);
            if header.dst_port == 8 {
                break data;
            }
        };
        assert_eq!(data, [round; 100]);
        guest.send(again(&accepted, Op::Data, 1), &[round]);
        guest.turn();
        let mut byte = [0];
        live.read_exact(&mut byte).unwrap();
        assert_eq!(byte[0], round);
    }
}

#[test]
fn connections_that_flood_take_turns() {
    let mut guest = Guest::awake();
    let (one, _) = guest.connected(7, 1 << 20);
    let (two, _) = guest.connected(8, 1 << 20);
    for mut stream in [&one, &two] {
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(&vec![0; 200_000]);
    }
    let (mut first, mut run) = (None, 0);
    loop {
        let (header, data) = guest.until(Op::Data);
        if *first.get_or_insert(header.dst_port) != header.dst_port {
            break;
        }
        run += data.len();
        assert!(run <= BATCH, "the other one waits too long");
    }
}

#[test]
fn an_end_of_the_guest_first_leaves_the_host_free_to_answer() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    guest.send(again(&accepted, Op::Data, 8), b"question");
    guest.send(Header { flags: SHUTDOWN_SEND, ..again(&accepted, Op::Shutdown, 0) }, &[]);
    guest.turn();
    let mut question = String::new();
    ours.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    ours.write_all(b"answer").unwrap();
    assert_eq!(guest.until(Op::Data).1, b"answer");
    drop(ours);
    assert_eq!(guest.until(Op::Shutdown).0.flags, SHUTDOWN_BOTH);
}
