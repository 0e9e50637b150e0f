//! A guest with its device: rings, buffers, and a clock.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_queue::Queue;
use vmm::devices::Device;
use vmm::devices::vsock::{Dial, Handle, Vsock};
use vmm::memory::Memory;

use super::packet::{HEADER, Packet};
use crate::memory::{self, read, write};
use crate::ring::{self, Piece, Ring, SIZE};

const MEMORY: u64 = 0x6_0000;
const TO_GUEST: u64 = 0x1000;
const FROM_GUEST: u64 = 0x2000;
/// Places for buffers that the device fills, one a slot, and for the packet that the guest sends.
const BUFFERS: u64 = 0x1_0000;
const APART: u64 = 0x1080;
/// So many of them wait to be filled.
const OFFERED: usize = 12;
const SENT: u64 = 0x4_0000;
/// What is behind a packet, as far as it is looked at.
const BEHIND: [u8; 128] = [0xee; 128];
pub(super) const LONGEST: usize = 0x1_0000;

/// What the device has taken in and given out, and whether it used any buffers at all.
pub(super) struct Turn {
    pub(super) taken: Vec<Packet>,
    pub(super) given: Vec<Packet>,
    pub(super) any: bool,
}

pub(super) struct Guest {
    memory: Memory,
    pub(super) device: Vsock,
    pub(super) handle: Handle,
    pub(super) dials: mpsc::Receiver<Dial>,
    event_idx: bool,
    queues: [Queue; 2],
    to_guest: Ring,
    from_guest: Ring,
    /// Where each chain that the device may fill lies, and how long it is, by its head.
    buffers: Vec<Option<(u64, u32)>>,
    /// The length of the buffers that it is given; none where it gets none.
    pub(super) buffer: u32,
    sent: VecDeque<Packet>,
    start: Instant,
    pub(super) now: Instant,
}

impl Guest {
    pub(super) fn new(event_idx: bool) -> Self {
        let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
        let now = Instant::now();
        let (asking, dials) = mpsc::channel();
        let (device, handle) = Vsock::new(3, move |dial| asking.send(dial).unwrap_or_default()).unwrap();
        let (to_guest, to_queue) = Ring::new(TO_GUEST, event_idx);
        let (from_guest, from_queue) = Ring::new(FROM_GUEST, event_idx);
        Self {
            memory,
            device,
            handle,
            dials,
            event_idx,
            queues: [to_queue, from_queue],
            to_guest,
            from_guest,
            buffers: vec![None; usize::from(SIZE)],
            buffer: 4096,
            sent: VecDeque::new(),
            start: now,
            now,
        }
    }

    /// The driver is up, or up again with new rings.
    pub(super) fn start(&mut self) {
        self.device.reset();
        write(&self.memory, TO_GUEST, &[0; 2 * ring::ROOM as usize]);
        let (to_guest, to_queue) = Ring::new(TO_GUEST, self.event_idx);
        let (from_guest, from_queue) = Ring::new(FROM_GUEST, self.event_idx);
        (self.to_guest, self.from_guest, self.queues) = (to_guest, from_guest, [to_queue, from_queue]);
        self.buffers.fill(None);
        self.sent.clear();
        self.device.activate(self.now);
    }

    fn offer_buffers(&mut self) {
        while self.buffer > 0 && self.to_guest.outstanding() < OFFERED {
            let slot = (0..).find(|slot| {
                let place = BUFFERS + slot * APART;
                !self.buffers.iter().flatten().any(|(other, _)| *other == place)
            });
            let place = BUFFERS + slot.unwrap() * APART;
            let first = self.buffer.min(HEADER as u32 - 3);
            let pieces =
                [Piece::ToFill(place, first), Piece::ToFill(place + u64::from(first), self.buffer - first)];
            let count = if self.buffer.is_multiple_of(2) { 2 } else { 1 };
            let length = if count == 2 { self.buffer } else { first };
            let head = self.to_guest.offer(&self.memory, &pieces[..count]).unwrap();
            self.buffers[usize::from(head)] = Some((place, length));
            write(&self.memory, place + u64::from(length), &BEHIND);
        }
    }

    /// Puts a packet into the device's hands, header and data cut as `cut` says.
    pub(super) fn send(&mut self, packet: &Packet, cut: u8) {
        let mut bytes = packet.encode();
        // What is longer repeats itself.
        let rest = bytes.split_off(bytes.len().min(HEADER + LONGEST));
        write(&self.memory, SENT, &bytes);
        let first = match cut & 3 {
            0 => bytes.len(),
            1 => HEADER,
            _ => usize::from(cut >> 2).min(bytes.len()),
        };
        let mut pieces = vec![Piece::Filled(SENT, first as u32)];
        if first < bytes.len() {
            pieces.push(Piece::Filled(SENT + first as u64, (bytes.len() - first) as u32));
        }
        pieces.extend(rest.chunks(LONGEST).map(|part| Piece::Filled(SENT, part.len() as u32)));
        // A device that has no driver takes nothing.
        if self.from_guest.offer(&self.memory, &pieces).is_some() {
            self.sent.push_back(packet.clone());
        }
    }

    /// Lets the device work.
    pub(super) fn turn(&mut self) -> Turn {
        self.offer_buffers();
        let signals = Device::process(&mut self.device, &self.memory, &mut self.queues, self.now).unwrap();
        let taken = self.from_guest.used(&self.memory);
        assert!(taken.is_empty() || signals.has(Vsock::FROM_GUEST), "buffers came back without an interrupt");
        let filled = self.to_guest.used(&self.memory);
        assert!(
            filled.is_empty() || signals.has(Vsock::TO_GUEST),
            "buffers were filled without an interrupt"
        );
        // A buffer that is too small for a packet comes back empty.
        let any = !taken.is_empty() || !filled.is_empty();
        let mut given = Vec::new();
        for (head, written) in filled {
            let (place, length) = self.buffers[usize::from(head)].take().unwrap();
            assert!(written <= length, "more was written than there is room");
            assert!(read(&self.memory, place + u64::from(length), BEHIND.len()) == BEHIND);
            let bytes = read(&self.memory, place, written as usize);
            if written > 0 {
                given.push(Packet::decode(&bytes));
            }
        }
        Turn { taken: self.sent.drain(..taken.len()).collect(), given, any }
    }

    /// Whether the device says that it has something to do.
    pub(super) fn reports(&self) -> bool {
        let descriptor = self.device.descriptor().unwrap();
        let mut polled = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    /// By its own clock.
    pub(super) fn age(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}
