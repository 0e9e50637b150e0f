//! The guest: a hypervisor whose one vCPU makes accesses of its own, and writes to the guest's memory between them.

use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, VolatileSlice};
use vmm::board::x86_64::layout::{SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_TYPE_OFF};
use vmm::hypervisor::x86_64::Registers;
use vmm::hypervisor::{Error, Exit, Hypervisor, Kick, Vcpu, Vm};

use crate::attack::{
    self, BALLOON, CLASSES, CONSOLE, DEVICES, DISK, ENTROPY, NETWORK, NEXT, QUEUES, SIZE, VSOCK, WRITE,
    address,
};
use crate::random::Random;

pub(crate) const MEMORY: u64 = 8 << 20;
const PAGE: usize = 4096;
/// Rings and buffers; below are the kernel and its tables.
const AREAS: u64 = 0x20_0000;
/// After how many operations at least the process is measured again.
const LOOK: u64 = 500;
/// How long an honest request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The memory of one queue: descriptors, available ring, used ring and buffers, a page each.
pub(crate) fn area(device: u64, queue: u64) -> u64 {
    AREAS + (device * QUEUES + queue) * 0x4000
}

/// The page for what a queue's descriptors name.
fn buffer(device: u64, queue: u64) -> u64 {
    area(device, queue) + 0x3000
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

/// What came of the attack.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) operations: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) base_kib: u64,
    pub(crate) peak_kib: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    PortRead(u16, usize),
    PortWrite(u16, Vec<u8>),
}

/// As a hypervisor, and as its machine.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    operations: u64,
    meter: Sender<Sender<u64>>,
    report: Arc<Mutex<Report>>,
    memory: Arc<Mutex<Option<Region>>>,
}

/// The host's memory behind the guest's.
#[derive(Debug, Clone, Copy)]
struct Region(NonNull<[u8]>);
// SAFETY: a place in memory that every thread may see.
unsafe impl Send for Region {}

impl Region {
    fn slice(&self) -> VolatileSlice<'_> {
        // SAFETY: it stays mapped for as long as the machine, and nobody refers into it but by volatile accesses.
        unsafe { VolatileSlice::new(self.0.cast().as_ptr(), self.0.len()) }
    }
}

impl Hostile {
    /// Whatever asks `meter` gets the size of this process.
    pub(crate) fn new(operations: u64, meter: Sender<Sender<u64>>) -> Self {
        Self { operations, meter, report: Arc::default(), memory: Arc::default() }
    }

    pub(crate) fn report(&self) -> Arc<Mutex<Report>> {
        Arc::clone(&self.report)
    }
}

impl Hypervisor for Hostile {
    type Vm = Self;

    fn create_vm(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl Vm for Hostile {
    type Vcpu = Guest;

    unsafe fn map(&self, guest: u64, region: NonNull<[u8]>) -> Result<(), Error> {
        assert_eq!((guest, region.len()), (0, MEMORY as usize), "one region from 0 on");
        *self.memory.lock().unwrap() = Some(Region(region));
        Ok(())
    }

    fn interrupt(&self, _line: u32) -> Result<(), Error> {
        Ok(())
    }

    fn create_vcpu(&self, _index: u8, _count: u8) -> Result<Guest, Error> {
        Ok(Guest {
            memory: self.memory.lock().unwrap().unwrap(),
            random: Random::new(),
            waiting: VecDeque::new(),
            current: Vec::new(),
            offered: BTreeMap::new(),
            up: [false; DEVICES as usize],
            limit: self.operations,
            made: 0,
            next_look: 0,
            meter: self.meter.clone(),
            report: Arc::clone(&self.report),
            honest: None,
        })
    }
}

/// The vCPU.
pub(crate) struct Guest {
    memory: Region,
    random: Random,
    waiting: VecDeque<Access>,
    current: Vec<u8>,
    offered: BTreeMap<(u64, u64), u16>,
    up: [bool; DEVICES as usize],
    limit: u64,
    made: u64,
    next_look: u64,
    meter: Sender<Sender<u64>>,
    report: Arc<Mutex<Report>>,
    /// After the attack: how far the right use of devices has come, and until when that may take.
    honest: Option<(usize, Instant)>,
}

/// Nobody has to end what always comes back at once.
#[derive(Debug)]
pub(crate) struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

impl Vcpu for Guest {
    type Kick = NoKick;

    fn set_registers(&mut self, _registers: &Registers) -> Result<(), Error> {
        Ok(())
    }

    fn run(&mut self) -> Result<Exit<'_>, Error> {
        loop {
            if let Some(access) = self.waiting.pop_front() {
                self.made += 1;
                return Ok(self.exit(access));
            }
            self.measure();
            if self.made < self.limit {
                self.attack();
            } else if !self.use_rightly() {
                self.report.lock().unwrap().operations = self.made;
                thread::yield_now();
                return Ok(Exit::Kicked);
            }
        }
    }

    fn kick(&self) -> NoKick {
        NoKick
    }
}

impl Guest {
    fn exit(&mut self, access: Access) -> Exit<'_> {
        match access {
            Access::Read(at, length) => {
                self.current = vec![0; length];
                Exit::MmioRead(at, &mut self.current)
            }
            Access::Write(at, data) => {
                self.current = data;
                Exit::MmioWrite(at, &self.current)
            }
            Access::PortRead(port, length) => {
                self.current = vec![0; length];
                Exit::PortRead(port, &mut self.current)
            }
            Access::PortWrite(port, data) => {
                self.current = data;
                Exit::PortWrite(port, &self.current)
            }
        }
    }

    fn attack(&mut self) {
        let mut random = self.random.clone();
        let (class, attack) = random.one_of(&CLASSES);
        self.random = random.clone();
        attack(self, &mut random);
        self.random = random;
        *self.report.lock().unwrap().counts.entry(class).or_default() += 1;
    }

    /// The guest's own pages are all there while the process is measured, so that they do not count.
    fn measure(&mut self) {
        if self.made < self.next_look {
            return;
        }
        self.next_look = self.made + LOOK;
        let memory = self.memory.slice();
        for page in (0..MEMORY as usize).step_by(PAGE) {
            let byte: u8 = memory.read_obj(page).unwrap();
            memory.write_obj(byte, page).unwrap();
        }
        let (answer, size) = channel();
        self.meter.send(answer).unwrap();
        let size = size.recv().unwrap();
        let mut report = self.report.lock().unwrap();
        if report.base_kib == 0 {
            report.base_kib = size;
        }
        report.peak_kib = report.peak_kib.max(size);
    }

    pub(crate) fn access(&mut self, access: Access) {
        self.waiting.push_back(access);
    }

    fn register(&mut self, device: u64, register: u64, value: u32) {
        self.access(Access::Write(address(device) + register, value.to_le_bytes().to_vec()));
    }

    pub(crate) fn kick(&mut self, device: u64, queue: u64) {
        self.register(device, attack::NOTIFY, queue as u32);
    }

    pub(crate) fn is_up(&self, device: u64) -> bool {
        self.up[device as usize]
    }

    pub(crate) fn break_off(&mut self, device: u64) {
        self.up[device as usize] = false;
    }

    /// As the specification says (virtio 1.3, 3.1.1), but for where the rings are.
    pub(crate) fn set_up(&mut self, device: u64, size: u16, place: impl Fn(&mut Random, u64) -> u64) {
        let mut random = self.random.clone();
        for status in [0, 1, 3] {
            self.register(device, attack::STATUS, status);
        }
        // Version 1, and event indexes or tables or neither.
        for (select, features) in [(0, random.one_of(&[0, 1 << 28, 1 << 29, 3 << 28])), (1, 1)] {
            self.register(device, attack::DRIVER_FEATURES_SELECT, select);
            self.register(device, attack::DRIVER_FEATURES, features);
        }
        self.register(device, attack::STATUS, 11);
        for queue in 0..QUEUES {
            self.register(device, attack::QUEUE_SELECT, queue as u32);
            self.register(device, attack::QUEUE_SIZE, size.into());
            for (ring, register) in (0..).zip(attack::RINGS) {
                let at = place(&mut random, area(device, queue) + ring * 0x1000);
                self.register(device, register, at as u32);
                self.register(device, register + 4, (at >> 32) as u32);
            }
            self.register(device, attack::QUEUE_READY, 1);
            self.write(area(device, queue) + 0x1000, &[0; 0x2000]);
            self.offered.insert((device, queue), 0);
        }
        self.register(device, attack::STATUS, 15);
        self.up[device as usize] = true;
        self.random = random;
    }

    pub(crate) fn descriptor(&mut self, table: u64, number: u16, buffer: (u64, u32), flags: u16, next: u16) {
        let (start, length) = buffer;
        let entry =
            [&start.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.write(table + 16 * u64::from(number), &entry.concat());
    }

    pub(crate) fn offer(&mut self, device: u64, queue: u64, head: u16) {
        let ring = area(device, queue) + 0x1000;
        let index = self.offered.entry((device, queue)).or_default();
        let (slot, next) = (*index % SIZE, index.wrapping_add(1));
        *index = next;
        self.write(ring + 4 + 2 * u64::from(slot), &head.to_le_bytes());
        self.write(ring + 2, &next.to_le_bytes());
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.memory.slice().write_slice(bytes, at as usize).unwrap();
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.slice().read_slice(&mut bytes, at as usize).unwrap();
        bytes
    }

    /// After all that, one device after the other, and a power-off. Whether there is something to do now.
    fn use_rightly(&mut self) -> bool {
        let (step, deadline) = *self.honest.get_or_insert_with(|| (0, Instant::now() + PATIENCE));
        assert!(Instant::now() < deadline, "no answer to the right use of a device, step {step}");
        match step {
            0 => {
                self.set_up_rightly(ENTROPY);
                self.give(ENTROPY, 0, &[0; 64], WRITE);
            }
            1 if self.has_back(ENTROPY, 0, 1) => {
                assert_ne!(self.read(buffer(ENTROPY, 0), 64), [0; 64]);
                self.set_up_rightly(DISK);
                self.request(DISK, 1, &[0x77; 512]);
            }
            2 if self.has_back(DISK, 0, 1) => {
                assert_eq!(self.read(buffer(DISK, 0) + 0x400, 1), [0], "the sector is written");
                self.request(DISK, 0, &[0; 512]);
            }
            3 if self.has_back(DISK, 0, 2) => {
                assert_eq!(self.read(buffer(DISK, 0) + 0x400, 1), [0], "the sector is read");
                assert_eq!(self.read(buffer(DISK, 0) + 0x100, 512), [0x77; 512]);
                self.set_up_rightly(CONSOLE);
                self.give(CONSOLE, 1, b"a line\n", 0);
            }
            4 if self.has_back(CONSOLE, 1, 1) => {
                self.set_up_rightly(BALLOON);
                let page = buffer(BALLOON, 1) as u32 / PAGE as u32;
                self.give(BALLOON, 0, &page.to_le_bytes(), 0);
            }
            5 if self.has_back(BALLOON, 0, 1) => {
                self.set_up_rightly(NETWORK);
                self.give(NETWORK, 0, &[0; PAGE], WRITE);
                self.give(NETWORK, 1, &[0; 72], 0);
            }
            6 if self.has_back(NETWORK, 1, 1) && self.has_back(NETWORK, 0, 1) => {
                assert_eq!(self.read(buffer(NETWORK, 0) + 12, 1400), [0xaa; 1400], "a frame of the host's");
                self.set_up_rightly(VSOCK);
                self.give(VSOCK, 0, &[0; PAGE], WRITE);
                self.give(VSOCK, 1, &dial(), 0);
            }
            7 if self.has_back(VSOCK, 0, 1) => {
                const RESET: u16 = 3;
                assert_eq!(
                    self.read(buffer(VSOCK, 0) + 30, 2),
                    RESET.to_le_bytes(),
                    "what was dialed is refused"
                );
                self.access(Access::PortWrite(SLEEP_CONTROL, vec![SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE]));
            }
            _ => return false,
        }
        self.honest = Some((step + 1, deadline));
        true
    }

    fn set_up_rightly(&mut self, device: u64) {
        self.set_up(device, SIZE, |_, right| right);
    }

    /// Whether so many buffers have come back.
    fn has_back(&self, device: u64, queue: u64, count: u16) -> bool {
        self.read(area(device, queue) + 0x2002, 2) == count.to_le_bytes()
    }

    /// One buffer with these bytes, the queue's first.
    fn give(&mut self, device: u64, queue: u64, bytes: &[u8], flags: u16) {
        let at = buffer(device, queue);
        self.write(at, bytes);
        self.descriptor(area(device, queue), 0, (at, bytes.len() as u32), flags, 0);
        self.offer(device, queue, 0);
        self.kick(device, queue);
    }

    /// Of the first sector.
    fn request(&mut self, device: u64, kind: u32, data: &[u8; 512]) {
        let (table, buffer) = (area(device, 0), buffer(device, 0));
        self.write(buffer, &[&kind.to_le_bytes()[..], &[0; 12]].concat());
        self.write(buffer + 0x100, data);
        self.write(buffer + 0x400, &[0xff]);
        let direction = if kind == 0 { WRITE } else { 0 };
        self.descriptor(table, 0, (buffer, 16), NEXT, 1);
        self.descriptor(table, 1, (buffer + 0x100, 512), NEXT | direction, 2);
        self.descriptor(table, 2, (buffer + 0x400, 1), WRITE, 0);
        self.offer(device, 0, 0);
        self.kick(device, 0);
    }
}

/// An ELF of one page with Xen's note for its entry; nothing executes it.
pub(crate) fn kernel() -> Vec<u8> {
    let base = 0x10_0000_u32;
    let mut elf = vec![0; 2 * PAGE];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62_u16.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    for (at, kind, offset, address, size) in
        [(64, 1_u32, PAGE as u64, u64::from(base), PAGE as u64), (120, 4, 0x200, 0, 20)]
    {
        put(at, &kind.to_le_bytes());
        for (place, value) in [(8, offset), (24, address), (32, size), (40, size)] {
            put(at + place, &value.to_le_bytes());
        }
    }
    put(0x200, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(0x20c, b"Xen\0");
    put(0x210, &base.to_le_bytes());
    elf
}
