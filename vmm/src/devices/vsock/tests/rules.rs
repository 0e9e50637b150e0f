//! What has to hold for a guest that follows the rules.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::guest::{Guest, again, reply, request};
use crate::devices::vsock::limits::WINDOW;
use crate::devices::vsock::packet::{Op, SHUTDOWN_BOTH, SHUTDOWN_SEND};

/// Whether the device's descriptor reports events now: after a turn it must not, or a thread would spin on it.
fn reports(guest: &Guest) -> bool {
    let fd = guest.device.as_raw_fd();
    // SAFETY: the device owns the descriptor and outlives this function.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&zero)).unwrap() > 0
}

#[test]
fn a_connection_made_before_the_driver_waits_and_knocks_until_somebody_listens() {
    let mut guest = Guest::asleep();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    guest.handle.connect(7, b"first ".to_vec(), theirs.into());
    ours.write_all(b"then").unwrap();
    guest.device.process_host();
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

#[test]
fn a_slow_host_holds_the_guest_back_by_credit_and_loses_nothing() {
    let mut guest = Guest::awake();
    let (mut ours, accepted) = guest.connected(7, 1 << 20);
    ours.set_nonblocking(true).unwrap();
    let (mut sent, mut forwarded, mut got) = (0_u32, 0_u32, 0_u32);
    let mut buffer = vec![0; 100_000];
    let deadline = Instant::now() + Duration::from_secs(20);
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
    assert!(!reports(&guest), "the device would spin");
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
    assert!(!reports(&guest), "a reader that does nothing costs nothing");
    drop(ours);
    guest.turn();
    guest.turn();
    assert!(!reports(&guest), "the last trace of the connection is gone");
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
    assert!(!reports(&guest), "a hang-up that is known is reported again and again");
    guest.send(again(&accepted, Op::Reset, 0), &[]);
    guest.turn();
    assert!(!reports(&guest));
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
    // Guests from 6.3 use one descriptor, from 6.17 many; older ones put the header apart (Firecracker #5485).
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
    guest.device.set_active(false);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the connection is over");
    guest.device.set_active(true);
    assert_eq!(guest.until(Op::Request).0.dst_port, 8, "the other one knocks again");
}
