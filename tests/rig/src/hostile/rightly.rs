//! After the attack: one device after the other, used as it should be.

use std::time::{Duration, Instant};

use super::driver::{Driver, NEXT, WRITE};
use super::{BALLOON, CONSOLE, DISK, ENTROPY, FRAME, LINE, Machine, NETWORK, SECTOR, VSOCK};

/// How long an honest request may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;

/// How the right use has come on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A device was asked for something.
    Asked,
    /// One has not answered yet.
    Waits,
    /// All of them have.
    Finished,
}

#[derive(Debug, Default)]
pub(super) struct Rightly {
    step: usize,
    /// None before the first.
    deadline: Option<Instant>,
}

impl Rightly {
    pub(super) fn go_on<M: Machine>(&mut self, driver: &mut Driver<M>) -> Progress {
        let step = self.step;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
        assert!(Instant::now() < deadline, "no answer to the right use of a device, step {step}");
        let progress = driver.step(step);
        if progress == Progress::Asked {
            self.step += 1;
        }
        progress
    }
}

impl<M: Machine> Driver<M> {
    fn step(&mut self, step: usize) -> Progress {
        match step {
            0 => {
                self.set_up_rightly(ENTROPY);
                self.give(ENTROPY, 0, &[0; 64], WRITE);
            }
            1 if self.has_back(ENTROPY, 0, 1) => {
                assert_ne!(self.given(ENTROPY, 0, 0, 64), [0; 64]);
                self.set_up_rightly(DISK);
                self.request(1, &SECTOR);
            }
            2 if self.has_back(DISK, 0, 1) => {
                assert_eq!(self.given(DISK, 0, 0x400, 1), [0], "the sector is written");
                self.request(0, &[0; 512]);
            }
            3 if self.has_back(DISK, 0, 2) => {
                assert_eq!(self.given(DISK, 0, 0x400, 1), [0], "the sector is read");
                assert_eq!(self.given(DISK, 0, 0x100, 512), SECTOR);
                self.set_up_rightly(CONSOLE);
                self.give(CONSOLE, 1, LINE.as_bytes(), 0);
            }
            4 if self.has_back(CONSOLE, 1, 1) => {
                self.set_up_rightly(BALLOON);
                let page = self.buffer(BALLOON, 1) as u32 / PAGE as u32;
                self.give(BALLOON, 0, &page.to_le_bytes(), 0);
            }
            5 if self.has_back(BALLOON, 0, 1) => {
                self.set_up_rightly(NETWORK);
                self.give(NETWORK, 0, &[0; PAGE], WRITE);
                self.give(NETWORK, 1, &[0; 72], 0);
            }
            6 if self.has_back(NETWORK, 1, 1) && self.has_back(NETWORK, 0, 1) => {
                assert_eq!(self.given(NETWORK, 0, 12, FRAME.len()), FRAME, "a frame of the host's");
                if self.layout.count <= VSOCK {
                    return Progress::Finished;
                }
                self.set_up_rightly(VSOCK);
                self.give(VSOCK, 0, &[0; PAGE], WRITE);
                self.give(VSOCK, 1, &dial(), 0);
            }
            7 if self.has_back(VSOCK, 0, 1) => {
                const RESET: u16 = 3;
                let answer = self.given(VSOCK, 0, 30, 2);
                assert_eq!(answer, RESET.to_le_bytes(), "what was dialed is refused");
                return Progress::Finished;
            }
            _ => return Progress::Waits,
        }
        Progress::Asked
    }

    /// One buffer with these bytes, the queue's first.
    fn give(&mut self, device: u64, queue: u64, bytes: &[u8], flags: u16) {
        let (table, at) = (self.area(device, queue), self.buffer(device, queue));
        self.machine.put(at, bytes);
        self.descriptor(table, 0, (at, bytes.len() as u32), flags, 0);
        self.offer(device, queue, 0);
        self.kick(device, queue);
    }

    /// What is in a queue's buffer now.
    fn given(&self, device: u64, queue: u64, offset: u64, length: usize) -> Vec<u8> {
        self.machine.get(self.buffer(device, queue) + offset, length)
    }

    /// Of the disk's first sector.
    fn request(&mut self, kind: u32, data: &[u8; 512]) {
        let (table, buffer) = (self.area(DISK, 0), self.buffer(DISK, 0));
        self.machine.put(buffer, &[&kind.to_le_bytes()[..], &[0; 12]].concat());
        self.machine.put(buffer + 0x100, data);
        self.machine.put(buffer + 0x400, &[0xff]);
        let direction = if kind == 0 { WRITE } else { 0 };
        self.descriptor(table, 0, (buffer, 16), NEXT, 1);
        self.descriptor(table, 1, (buffer + 0x100, 512), NEXT | direction, 2);
        self.descriptor(table, 2, (buffer + 0x400, 1), WRITE, 0);
        self.offer(DISK, 0, 0);
        self.kick(DISK, 0);
    }
}

/// A packet that wants a stream to port 1000 of the host (virtio 1.3, 5.10.6).
fn dial() -> Vec<u8> {
    const GUEST: u64 = 3;
    const HOST: u64 = 2;
    const STREAM: u16 = 1;
    const REQUEST: u16 = 1;
    let ports = [5000_u32, 1000].map(u32::to_le_bytes).concat();
    let kind = [STREAM, REQUEST].map(u16::to_le_bytes).concat();
    [&[GUEST, HOST].map(u64::to_le_bytes).concat()[..], &ports, &[0; 4], &kind, &[0; 12]].concat()
}
