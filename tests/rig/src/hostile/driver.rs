//! What attack and right use share: devices on virtio-mmio, their queues and descriptors.

use std::collections::BTreeMap;

use super::random::Random;
use super::rightly::{Progress, Rightly};
use super::{Access, DEVICE_SIZE, Layout, Machine, attack};

pub(super) const QUEUES: u64 = 3;
/// Of each queue.
pub(super) const SIZE: u16 = 16;
/// The memory of one queue: descriptors, available ring, used ring and buffers, a page each.
const AREA: u64 = 0x4000;

// Registers (virtio 1.3, 4.2.2).
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
pub(super) const NOTIFY: u64 = 0x050;
pub(super) const ACKNOWLEDGE: u64 = 0x064;
const STATUS: u64 = 0x070;
const RINGS: [u64; 3] = [0x080, 0x090, 0x0a0];
pub(super) const CONFIG: u64 = 0x100;

// Descriptors' flags.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// The driver of all devices of one machine.
#[derive(Debug)]
pub struct Driver<M> {
    pub machine: M,
    pub(super) layout: Layout,
    random: Random,
    /// How many heads each queue was given, by device and queue.
    offered: BTreeMap<(u64, u64), u16>,
    /// The devices that are set up as they should be.
    up: Vec<bool>,
    rightly: Rightly,
}

impl<M: Machine> Driver<M> {
    pub fn new(machine: M, layout: Layout) -> Self {
        let up = vec![false; layout.count as usize];
        Self {
            machine,
            layout,
            random: Random::new(),
            offered: BTreeMap::new(),
            up,
            rightly: Rightly::default(),
        }
    }

    /// Does one thing wrong, and says of which class it is.
    pub fn attack(&mut self) -> &'static str {
        let mut random = self.random.clone();
        let class = attack::attack(self, &mut random);
        self.random = random;
        class
    }

    /// One step in the right use of each device. Where the machine gave no answer for long, and where it gave a wrong one,
    /// this panics.
    pub fn use_rightly(&mut self) -> Progress {
        let mut rightly = std::mem::take(&mut self.rightly);
        let progress = rightly.go_on(self);
        self.rightly = rightly;
        progress
    }

    pub(super) fn address(&self, device: u64) -> u64 {
        self.layout.devices + device * DEVICE_SIZE
    }

    pub(super) fn area(&self, device: u64, queue: u64) -> u64 {
        self.layout.own.start + (device * QUEUES + queue) * AREA
    }

    /// The page for what a queue's descriptors name.
    pub(super) fn buffer(&self, device: u64, queue: u64) -> u64 {
        self.area(device, queue) + 0x3000
    }

    fn register(&mut self, device: u64, register: u64, value: u32) {
        let at = self.address(device) + register;
        self.machine.access(Access::Write(at, value.to_le_bytes().to_vec()));
    }

    pub(super) fn kick(&mut self, device: u64, queue: u64) {
        self.register(device, NOTIFY, queue as u32);
    }

    pub(super) fn is_up(&self, device: u64) -> bool {
        self.up[device as usize]
    }

    pub(super) fn break_off(&mut self, device: u64) {
        self.up[device as usize] = false;
    }

    pub(super) fn set_up_rightly(&mut self, device: u64) {
        self.set_up(device, SIZE, |_, right| right);
    }

    /// As the specification says (virtio 1.3, 3.1.1), but for where the rings are.
    pub(super) fn set_up(&mut self, device: u64, size: u16, place: impl Fn(&mut Random, u64) -> u64) {
        let mut random = self.random.clone();
        for status in [0, 1, 3] {
            self.register(device, STATUS, status);
        }
        // Version 1, and event indexes or tables or neither.
        for (select, features) in [(0, random.one_of(&[0, 1 << 28, 1 << 29, 3 << 28])), (1, 1)] {
            self.register(device, DRIVER_FEATURES_SELECT, select);
            self.register(device, DRIVER_FEATURES, features);
        }
        self.register(device, STATUS, 11);
        for queue in 0..QUEUES {
            let area = self.area(device, queue);
            self.register(device, QUEUE_SELECT, queue as u32);
            self.register(device, QUEUE_SIZE, size.into());
            for (ring, register) in (0..).zip(RINGS) {
                let at = place(&mut random, area + ring * 0x1000);
                self.register(device, register, at as u32);
                self.register(device, register + 4, (at >> 32) as u32);
            }
            self.register(device, QUEUE_READY, 1);
            self.machine.put(area + 0x1000, &[0; 0x2000]);
            self.offered.insert((device, queue), 0);
        }
        self.register(device, STATUS, 15);
        self.up[device as usize] = true;
        self.random = random;
    }

    pub(super) fn descriptor(&mut self, table: u64, number: u16, buffer: (u64, u32), flags: u16, next: u16) {
        let (start, length) = buffer;
        let entry =
            [&start.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.machine.put(table + 16 * u64::from(number), &entry.concat());
    }

    pub(super) fn offer(&mut self, device: u64, queue: u64, head: u16) {
        let ring = self.area(device, queue) + 0x1000;
        let index = self.offered.entry((device, queue)).or_default();
        let (slot, next) = (*index % SIZE, index.wrapping_add(1));
        *index = next;
        self.machine.put(ring + 4 + 2 * u64::from(slot), &head.to_le_bytes());
        self.machine.put(ring + 2, &next.to_le_bytes());
    }

    /// Whether so many buffers have come back.
    pub(super) fn has_back(&self, device: u64, queue: u64, count: u16) -> bool {
        self.machine.get(self.area(device, queue) + 0x2002, 2) == count.to_le_bytes()
    }
}
