//! The network card (virtio 1.3, 5.1): any frames of the driver's, any bytes from the network process.
//!
//! Input: flags (1: event indexes, 2: checksums are ours, 4: checksums are trusted, 8: buffers are merged), then steps:
//!
//! 0. the driver sends a frame: where its checksum begins and lies, flags, its length, how it is cut
//! 1. it offers a buffer of so many bytes, cut or not
//! 2. the network process sends a frame of so many bytes
//! 3. it sends bytes that are in the input: how many, then they
//! 4. it reads what has come
//! 5. it ends
//! 6. nothing happens
//!
//! After each step the card works.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use virtio_queue::Queue;
use vmm::devices::Device;
use vmm::devices::net::Net;
use vmm::memory::Memory;

use crate::input::Input;
use crate::memory::{self, read, write};
use crate::ring::{self, Piece, Ring, SIZE};

const MEMORY: u64 = 0x12_0000;
const SENT: u64 = 0x4000;
/// Buffers for what comes, each at a place of its own with room behind it.
const BUFFERS: u64 = 0x2_0000;
const APART: u64 = 0x4000;
/// What is behind a buffer, as far as it is looked at.
const BEHIND: [u8; 128] = [0xee; 128];
const HEADER: usize = 12;
const SHORTEST: usize = 14;
const LONGEST: usize = 65535;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut card = Card::new(input.byte());
    for _ in 0..48 {
        if input.is_empty() {
            break;
        }
        match input.below(7) {
            0 => card.driver_sends(&mut input),
            1 => card.driver_offers(&mut input),
            2 => {
                let (length, first) = (input.number() as usize % (LONGEST + 3), input.byte());
                let frame = pattern(length, first);
                card.network_sends(&[&(length as u32).to_be_bytes()[..], &frame].concat());
            }
            3 => {
                let length = usize::from(input.byte());
                card.network_sends(input.bytes(length));
            }
            4 => card.network_reads(),
            5 => card.network = None,
            _ => {}
        }
        card.work();
    }
    card.network_reads();
    card.work();
}

/// A card with its driver and its network process, and what has to come out at either side.
struct Card {
    flags: u8,
    memory: Memory,
    device: Net,
    queues: [Queue; 2],
    receive: Ring,
    transmit: Ring,
    network: Option<UnixStream>,
    /// Bytes that the network process could not send yet.
    unsent: VecDeque<u8>,
    /// All that it has sent, as far as the card may not have read it.
    coming: Vec<u8>,
    /// What the driver has sent and not got back: the frame, if it is one.
    sending: VecDeque<Option<Vec<u8>>>,
    /// What has to come out of the wire.
    going: VecDeque<u8>,
    /// Buffers by their heads: where they are, and how long.
    buffers: Vec<Option<(u64, usize)>>,
}

impl Card {
    fn new(flags: u8) -> Self {
        let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut device = Net::new(theirs.into()).unwrap();
        let features =
            [(2, 0), (4, 1), (8, 15)].iter().map(|(flag, bit)| u64::from(flags & flag != 0) << bit).sum();
        device.activate(features, Instant::now());
        let (receive, receive_queue) = Ring::new(ring::ROOM, flags & 1 != 0);
        let (transmit, transmit_queue) = Ring::new(2 * ring::ROOM, flags & 1 != 0);
        Self {
            flags,
            memory,
            device,
            queues: [receive_queue, transmit_queue],
            receive,
            transmit,
            network: Some(ours),
            unsent: VecDeque::new(),
            coming: Vec::new(),
            sending: VecDeque::new(),
            going: VecDeque::new(),
            buffers: vec![None; usize::from(SIZE)],
        }
    }

    fn driver_sends(&mut self, input: &mut Input<'_>) {
        // Its memory has room for one frame at a time.
        if self.transmit.outstanding() > 0 {
            return;
        }
        let (flags, start, offset) = (input.byte(), input.number() as u16, input.number() as u16);
        let (length, cut, first) = (input.number() as usize % (LONGEST + 3), input.byte(), input.byte());
        let [s, t] = start.to_le_bytes();
        let [o, p] = offset.to_le_bytes();
        let header = [flags, 0, 0, 0, 0, 0, s, t, o, p, 0, 0];
        let packet = [&header[..], &pattern(length, first)].concat();
        let packet = if cut & 0x80 != 0 { &packet[..length.min(HEADER + 20)] } else { &packet };
        write(&self.memory, SENT, packet);
        let half = packet.len() * usize::from(cut & 0x3f) / 64;
        let pieces = [
            Piece::Filled(SENT, half as u32),
            Piece::Filled(SENT + half as u64, (packet.len() - half) as u32),
            Piece::ToFill(SENT, 4),
        ];
        let count = if cut & 0x40 != 0 { 3 } else { 2 };
        self.transmit.offer(&self.memory, &pieces[..count]).unwrap();
        self.sending.push_back(self.frame(packet));
    }

    /// The frame that the network process has to get for a packet of the driver's.
    fn frame(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (header, frame) = packet.split_at_checked(HEADER)?;
        let mut frame = frame.to_vec();
        if !(SHORTEST..=LONGEST).contains(&frame.len()) {
            return None;
        }
        if header[0] & 1 != 0 && self.flags & 2 != 0 {
            let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
            let place = start + usize::from(u16::from_le_bytes([header[8], header[9]]));
            frame.get(place..place + 2)?;
            // RFC 1071, word by word.
            let sum = frame[start..].chunks(2).fold(0_u32, |sum, word| {
                let sum = sum + (u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
                (sum & 0xffff) + (sum >> 16)
            });
            let checksum = match !(sum as u16) {
                0 => 0xffff,
                checksum => checksum,
            };
            frame[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        Some(frame)
    }

    fn driver_offers(&mut self, input: &mut Input<'_>) {
        let (length, cut) = (input.number() as usize % (APART as usize - BEHIND.len()), input.byte());
        let Some(slot) = (0..u64::from(SIZE)).find(|slot| {
            let place = BUFFERS + slot * APART;
            !self.buffers.iter().flatten().any(|(other, _)| *other == place)
        }) else {
            return;
        };
        let place = BUFFERS + slot * APART;
        write(&self.memory, place + length as u64, &BEHIND);
        let half = length * usize::from(cut & 0x3f) / 64;
        let pieces = [
            Piece::Filled(SENT, 4),
            Piece::ToFill(place, half as u32),
            Piece::ToFill(place + half as u64, (length - half) as u32),
        ];
        let from = usize::from(cut & 0x40 == 0);
        if let Some(head) = self.receive.offer(&self.memory, &pieces[from..]) {
            self.buffers[usize::from(head)] = Some((place, length));
        }
    }

    fn network_sends(&mut self, bytes: &[u8]) {
        if self.network.is_some() && self.unsent.len() < 1 << 18 {
            self.unsent.extend(bytes);
            self.coming.extend(bytes);
        }
    }

    fn network_reads(&mut self) {
        let Some(mut network) = self.network.as_ref() else { return };
        let mut bytes = vec![0; 0x1_0000];
        loop {
            match network.read(&mut bytes) {
                Ok(0) => return self.network = None,
                Ok(count) => {
                    assert!(self.going.len() >= count, "more comes out than went in");
                    let expected: Vec<u8> = self.going.drain(..count).collect();
                    assert!(expected == bytes[..count], "frames of the driver's are not what it sent");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return;
                }
            }
        }
    }

    fn work(&mut self) {
        if let Some(mut network) = self.network.as_ref() {
            while !self.unsent.is_empty() {
                match network.write(self.unsent.as_slices().0) {
                    Ok(count) => drop(self.unsent.drain(..count)),
                    Err(_) => break,
                }
            }
        }
        let signals = self.device.process(&self.memory, &mut self.queues, Instant::now()).unwrap();
        let sent = self.transmit.used(&self.memory);
        assert!(sent.is_empty() || signals.has(1), "the driver is not told of what was sent");
        for (_, written) in &sent {
            assert_eq!(*written, 0);
            if let Some(frame) = self.sending.pop_front().unwrap() {
                self.going.extend((frame.len() as u32).to_be_bytes());
                self.going.extend(frame);
            }
        }
        let received = self.receive.used(&self.memory);
        assert!(received.is_empty() || signals.has(0), "the driver is not told of what has come");
        self.check_received(&received);
    }

    /// Each frame lies whole in the chains that its header counts, and they come in the order in which they were sent; one
    /// that does not fit may be missing.
    fn check_received(&mut self, used: &[(u16, u32)]) {
        let mut used = used.iter();
        while used.len() > 0 {
            let (mut packet, mut chains) = (Vec::new(), 0);
            // The header may be cut, too.
            while packet.len() < HEADER || chains < announced(&packet) {
                let (head, written) = used.next().expect("a part of a frame came");
                let written = *written as usize;
                let (place, length) = self.buffers[usize::from(*head)].take().unwrap();
                assert!(written <= length, "more was written than there is room");
                assert!(read(&self.memory, place + length as u64, BEHIND.len()) == BEHIND);
                packet.extend(read(&self.memory, place, written));
                chains += 1;
                let is_last = packet.len() >= HEADER && chains == announced(&packet);
                assert!(is_last || written == length, "a buffer was not filled");
            }
            assert!(chains == 1 || self.flags & 8 != 0, "{chains} chains for one frame");
            assert_eq!(packet[..10], [u8::from(self.flags & 4 != 0) * 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            self.expect(&packet[HEADER..]);
        }
    }

    fn expect(&mut self, frame: &[u8]) {
        loop {
            let (length, rest) = self.coming.split_at_checked(4).expect("a frame came that nobody sent");
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            assert!((SHORTEST..=LONGEST).contains(&length), "a frame came behind one that ends the wire");
            let is_it = rest.get(..length).expect("a frame came before all of it was sent") == frame;
            self.coming.drain(..4 + length);
            if is_it {
                return;
            }
        }
    }
}

/// How many chains a frame's header says that it fills.
fn announced(packet: &[u8]) -> usize {
    u16::from_le_bytes([packet[10], packet[11]]).into()
}

fn pattern(length: usize, first: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(13).wrapping_add(first) ^ (at >> 8) as u8).collect()
}
