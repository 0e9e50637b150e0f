//! The vsock device (virtio 1.3, 5.10): any packets of a guest, between whatever its host does, in any order.
//!
//! Input: flags (1: event indexes, 2: the host is earlier than the driver), then steps, see [`World::step`]. What comes out
//! on either side is held against a model of all connections ([`model`]): states, credit, every byte, every reset.

mod guest;
mod model;
mod packet;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::guest::{Guest, LONGEST, Turn};
use self::model::{Model, State};
use self::packet::{CREDIT_UPDATE, DATA, GUEST, HOST, Key, Packet, REQUEST, RESPONSE, STREAM};
use crate::input::Input;

/// Ports that mean something to somebody, so that they meet.
const PORTS: [u32; 6] = [7, 8, 60, 1 << 30, (1 << 30) + 1, u32::MAX];
/// How long the host waits for a guest that does not listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Larger than every window.
const FAR_TOO_MUCH: u32 = 0x5_0000;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let flags = input.byte();
    let mut world = World {
        guest: Guest::new(flags & 1 != 0),
        model: Model::default(),
        hosts: Vec::new(),
        asked: VecDeque::new(),
    };
    if flags & 2 == 0 {
        world.guest.start();
    }
    for _ in 0..96 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.turn();
    }
    world.end();
}

struct World {
    guest: Guest,
    model: Model,
    hosts: Vec<Host>,
    /// What the guest wants of the host: by which number the owner was asked.
    asked: VecDeque<(u64, Key)>,
}

/// A stream of the host's.
struct Host {
    /// None when it was closed.
    stream: Option<UnixStream>,
    wrote: Vec<u8>,
    got: Vec<u8>,
    /// It has read to the end.
    saw_end: bool,
    /// It writes no more (1), and reads no more (2).
    ended: u8,
}

impl Host {
    fn new(stream: UnixStream, wrote: Vec<u8>) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self { stream: Some(stream), wrote, got: Vec::new(), saw_end: false, ended: 0 }
    }

    /// It has what the guest has sent, and sees the end of that if there is one.
    fn has(&self, sent: &[u8], is_all: bool) {
        assert!(sent.starts_with(&self.got), "the host got what the guest has not sent");
        if self.ended == 0 {
            assert_eq!(self.got.len(), sent.len(), "bytes of the guest's are lost");
            assert_eq!(self.saw_end, is_all, "the end of what the guest has sent");
        }
    }

    /// The device has closed its end.
    fn is_hung_up(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        let mut polled = [PollFd::new(stream, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        polled[0].revents().contains(PollFlags::HUP)
    }
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(13) {
            // The host wants the guest: which port, how much it says at once.
            0 => self.host_connects(PORTS[usize::from(input.below(6))], input.byte()),
            // Any packet of the guest's.
            1 => {
                let packet = self.any_packet(input);
                self.guest.send(&packet, input.byte());
            }
            // Data within the guest's credit: on which connection, how much, how cut.
            2 => self.guest_data(input),
            // The host writes, reads, or ends: which, how much.
            3 => {
                let (which, count) = (input.byte(), input.short());
                self.host_writes(which, count.into());
            }
            4 => {
                let (which, count) = (input.byte(), input.short());
                self.host_reads(which, usize::from(count) + 1);
            }
            5 => self.host_ends(input.byte(), input.byte()),
            // The owner answers what it was asked longest ago.
            6 => self.owner_answers(input.flag()),
            7 => {
                // Whoever is given up by the clock is told before anything else happens.
                self.settle();
                self.guest.pass(Duration::from_millis(u64::from(input.short())));
                self.settle();
                self.expire();
            }
            // How long buffers are, where there are any.
            8 => self.guest.buffer = [4096, 0, 44, 45, 46, 10, 48, 1024][usize::from(input.below(8))],
            // The guest says what room it has, and how much it has read: truly or not.
            9 => self.guest_credit(input),
            10 => {
                self.settle();
                self.model.reset();
                self.guest.start();
            }
            // The guest accepts what it was asked: with how much room.
            11 => self.guest_accepts(input),
            // Nothing happens: with buffers, room and readers as they are, the device comes to rest.
            _ => self.is_quiet(),
        }
    }

    fn host_connects(&mut self, port: u32, says: u8) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let number = self.hosts.len();
        let says: Vec<u8> = (0..says).map(|at| byte(number, at.into())).collect();
        self.guest.handle.connect(port, says.clone(), theirs.into());
        self.model.knock(port, number, says.len());
        self.hosts.push(Host::new(ours, says));
    }

    /// A connection that there is, or none.
    fn pick(&self, which: u8) -> Option<Key> {
        let keys: Vec<Key> = self.model.connections.keys().copied().collect();
        keys.get(usize::from(which).checked_rem(keys.len())?).copied()
    }

    fn any_packet(&self, input: &mut Input<'_>) -> Packet {
        let which = input.byte();
        let strange = || (PORTS[usize::from(which) % 6], PORTS[usize::from(which >> 4) % 6]);
        let key = self.pick(which >> 1).filter(|_| which & 1 == 0).unwrap_or_else(strange);
        let mut packet = Packet::of_guest(key, input.byte().into());
        packet.flags = input.byte().into();
        (packet.buf_alloc, packet.fwd_cnt) = (input.number() as u32, input.number() as u32);
        let wrong = input.byte();
        packet.source = if wrong & 0x30 == 0x10 { 9 } else { GUEST };
        packet.destination = if wrong & 0x30 == 0x20 { 9 } else { HOST };
        packet.kind = if wrong & 0x30 == 0x30 { 2 } else { STREAM };
        match wrong & 3 {
            // Too much for every window, or for the buffers.
            0 if packet.op == DATA => {
                packet.data = vec![0; FAR_TOO_MUCH as usize];
                packet.len = FAR_TOO_MUCH;
            }
            1 if packet.op == DATA => {
                packet.data = vec![0; usize::from(input.byte())];
                packet.len = packet.data.len() as u32 + 1;
            }
            _ => {}
        }
        packet
    }

    fn guest_data(&mut self, input: &mut Input<'_>) {
        let (which, count, cut) = (input.byte(), input.short(), input.byte());
        let Some(key) = self.pick(which) else { return };
        let connection = &self.model.connections[&key];
        if !connection.may_send() {
            return;
        }
        let count = usize::from(count).min(connection.credit() as usize).min(LONGEST);
        let start = connection.sent.len();
        let mut packet = Packet::of_guest(key, DATA);
        packet.data = (start..start + count).map(|at| byte(key.0 as usize, at)).collect();
        packet.len = count as u32;
        packet.buf_alloc = FAR_TOO_MUCH;
        packet.fwd_cnt = connection.got.len() as u32;
        self.guest.send(&packet, cut);
    }

    fn guest_credit(&mut self, input: &mut Input<'_>) {
        let (which, room, lie) = (input.byte(), input.number(), input.byte());
        let Some(key) = self.pick(which) else { return };
        let mut packet = Packet::of_guest(key, CREDIT_UPDATE);
        packet.buf_alloc = room as u32;
        packet.fwd_cnt =
            (self.model.connections[&key].got.len() as u32).wrapping_add_signed(lie.cast_signed().into());
        self.guest.send(&packet, 0);
    }

    fn guest_accepts(&mut self, input: &mut Input<'_>) {
        let room = input.number() as u32;
        let asks = |state| state == State::Knocking { asked: true };
        let Some((key, _)) = self.model.connections.iter().find(|(_, other)| asks(other.state)) else {
            // Or it wants something itself.
            let key = (PORTS[usize::from(input.below(4))], 60);
            return self.guest.send(&Packet { buf_alloc: room, ..Packet::of_guest(key, REQUEST) }, 0);
        };
        let packet = Packet { buf_alloc: room, ..Packet::of_guest(*key, RESPONSE) };
        self.guest.send(&packet, 0);
    }

    fn host_writes(&mut self, which: u8, count: usize) {
        let Some((number, host)) = pick_host(&mut self.hosts, which) else { return };
        let Some(mut stream) = host.stream.as_ref() else { return };
        let bytes: Vec<u8> = (host.wrote.len()..).take(count).map(|at| byte(number, at)).collect();
        if let Ok(count) = stream.write(&bytes) {
            host.wrote.extend(&bytes[..count]);
        }
    }

    fn host_reads(&mut self, which: u8, count: usize) -> usize {
        let Some((_, host)) = pick_host(&mut self.hosts, which) else { return 0 };
        let Some(mut stream) = host.stream.as_ref() else { return 0 };
        let mut bytes = vec![0; count];
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => {
                host.got.extend(&bytes[..count]);
                return count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0..) | Err(_) => host.saw_end = true,
        }
        0
    }

    fn host_ends(&mut self, which: u8, how: u8) {
        // The device hears of it before the guest does anything else.
        self.settle();
        let Some((number, host)) = pick_host(&mut self.hosts, which) else { return };
        let Some(stream) = &host.stream else { return };
        let ended = host.ended | [1, 2, 3][usize::from(how % 3)];
        let knocking = self.model.knocking_for(number);
        if let (Some((_, says)), 3) = (knocking, ended)
            && host.wrote.len() > says
        {
            // Whether its words still find the guest is only known when they do.
            return;
        }
        host.ended = ended;
        match how % 3 {
            0 => stream.shutdown(Shutdown::Write).unwrap(),
            1 => stream.shutdown(Shutdown::Read).unwrap(),
            _ => host.stream = None,
        }
        if let (Some((key, _)), 3) = (knocking, ended) {
            self.model.give_up(key);
        }
        self.settle();
    }

    /// Time has passed, and whoever knocked for too long has been sent away.
    fn expire(&mut self) {
        for (key, host) in self.model.all_knocking() {
            if self.hosts[host].is_hung_up() {
                assert!(self.guest.age() >= PATIENCE, "given up too early");
                self.model.forget(key);
            }
        }
    }

    fn owner_answers(&mut self, agrees: bool) {
        let Some((id, key)) = self.asked.pop_front() else { return };
        // The guest may have given up, and have asked again.
        let newest = self.asked.iter().all(|(_, other)| *other != key);
        let waits = self
            .model
            .connections
            .get(&key)
            .is_some_and(|other| other.state == State::Dialing { agreed: false });
        let waits = waits && newest;
        if agrees {
            let (ours, theirs) = UnixStream::pair().unwrap();
            self.guest.handle.dialed(id, theirs.into());
            if waits {
                self.model.agree(key, self.hosts.len());
                self.hosts.push(Host::new(ours, Vec::new()));
            }
        } else {
            self.guest.handle.refused(id);
            if waits {
                self.model.refuse(key);
            }
        }
    }

    /// The device works once; whether it had anything to do.
    fn turn(&mut self) -> bool {
        let Turn { taken, given, any } = self.guest.turn();
        for packet in &taken {
            self.model.taken_in(packet);
        }
        for packet in &given {
            self.model.given_out(packet);
        }
        while let Ok(dial) = self.guest.dials.try_recv() {
            assert!(!self.model.dials.is_empty(), "the owner is asked for nothing");
            let key = self.model.dials.remove(0);
            assert_eq!(dial.port, key.1);
            self.asked.push_back((dial.id, key));
        }
        assert!(self.model.dials.is_empty(), "the owner was not asked");
        any
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        self.guest.buffer = 4096;
        while self.turn() {}
        assert!(!self.guest.device.is_active() || self.model.owes_nothing(), "a packet was not answered");
    }

    fn end(&mut self) {
        if !self.guest.device.is_active() {
            self.guest.start();
        }
        self.settle();
        // All that is on its way arrives when both sides read.
        let mut packets = Vec::new();
        for (key, connection) in &self.model.connections {
            if connection.state == State::Open {
                let mut packet = Packet::of_guest(*key, CREDIT_UPDATE);
                (packet.buf_alloc, packet.fwd_cnt) = (FAR_TOO_MUCH * 16, connection.got.len() as u32);
                packets.push(packet);
            }
        }
        for packet in packets {
            self.guest.send(&packet, 0);
            self.turn();
        }
        loop {
            self.settle();
            let read: usize =
                (0..self.hosts.len()).map(|number| self.host_reads(number as u8, LONGEST)).sum();
            if read == 0 {
                break;
            }
        }
        self.is_quiet();
        let standing = self.model.connections.values().filter(|other| other.state == State::Open);
        for connection in standing {
            let host = &self.hosts[connection.host.unwrap()];
            let window = connection.window;
            assert!(host.ended > 0 || connection.credit() > window / 4 * 3, "credit does not come back");
            assert!(
                host.ended > 0 || !connection.wants_more() || connection.got == host.wrote,
                "bytes are lost"
            );
            host.has(&connection.sent, connection.has_ended());
        }
        for (host, sent) in &self.model.gone {
            self.hosts[*host].has(sent, true);
        }
        for (host, connection) in
            self.model.connections.values().filter_map(|other| Some((other.host?, other)))
        {
            assert!(self.hosts[host].wrote.starts_with(&connection.got), "the guest got what nobody sent");
        }
        self.guest.device.reset();
        self.guest.device.process_host(self.guest.now);
    }

    /// A device with nothing to do does not say that it has.
    fn is_quiet(&mut self) {
        for _ in 0..200 {
            self.guest.now = self.guest.now.max(Instant::now());
            if !self.guest.reports() {
                return;
            }
            self.turn();
        }
        panic!("the device would spin");
    }
}

fn pick_host(hosts: &mut [Host], which: u8) -> Option<(usize, &mut Host)> {
    let number = usize::from(which).checked_rem(hosts.len())?;
    Some((number, &mut hosts[number]))
}

/// Byte `at` of what number `who` sends.
fn byte(who: usize, at: usize) -> u8 {
    (at as u8).wrapping_mul(31).wrapping_add(who as u8) ^ (at >> 8) as u8
}
