//! The guest: a hypervisor whose one vCPU makes accesses of its own, and writes to the guest's memory between them.

use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rig::hostile::{Access, Driver, Layout, Machine, Progress};
use vm_memory::{Bytes, VolatileSlice};
use vmm::board::x86_64::layout::{SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_TYPE_OFF, virtio};
use vmm::hypervisor::x86_64::Registers;
use vmm::hypervisor::{Error, Exit, Hypervisor, Kick, Vcpu, Vm};

pub(crate) const MEMORY: u64 = 8 << 20;
const DEVICES: u64 = 6;
const PAGE: usize = 4096;
/// Rings and buffers; below are the kernel and its tables.
const OWN: u64 = 0x20_0000;
/// After how many operations at least the process is measured again.
const LOOK: u64 = 500;

/// What came of the attack.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) operations: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) base_kib: u64,
    pub(crate) peak_kib: u64,
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
            driver: Driver::new(
                Queue { memory: self.memory.lock().unwrap().unwrap(), waiting: VecDeque::new() },
                Layout {
                    devices: virtio(0).unwrap().address,
                    count: DEVICES,
                    own: OWN..MEMORY,
                    end: MEMORY,
                    may_harm_itself: true,
                },
            ),
            current: Vec::new(),
            limit: self.operations,
            made: 0,
            next_look: 0,
            meter: self.meter.clone(),
            report: Arc::clone(&self.report),
            is_off: false,
        })
    }
}

/// The vCPU.
pub(crate) struct Guest {
    driver: Driver<Queue>,
    current: Vec<u8>,
    limit: u64,
    made: u64,
    next_look: u64,
    meter: Sender<Sender<u64>>,
    report: Arc<Mutex<Report>>,
    is_off: bool,
}

/// The driver's accesses until the vCPU makes them.
struct Queue {
    memory: Region,
    waiting: VecDeque<Access>,
}

impl Machine for Queue {
    fn access(&mut self, access: Access) {
        self.waiting.push_back(access);
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory.slice().write_slice(bytes, at as usize).unwrap();
    }

    fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.slice().read_slice(&mut bytes, at as usize).unwrap();
        bytes
    }
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
            if let Some(access) = self.driver.machine.waiting.pop_front() {
                self.made += 1;
                return Ok(self.exit(access));
            }
            self.measure();
            if self.made < self.limit {
                let class = self.driver.attack();
                *self.report.lock().unwrap().counts.entry(class).or_default() += 1;
                continue;
            }
            let progress = if self.is_off { Progress::Waits } else { self.driver.use_rightly() };
            match progress {
                Progress::Asked => {}
                Progress::Waits => {
                    thread::yield_now();
                    return Ok(Exit::Kicked);
                }
                Progress::Finished => {
                    self.report.lock().unwrap().operations = self.made;
                    self.is_off = true;
                    let off = vec![SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE];
                    return Ok(self.exit(Access::PortWrite(SLEEP_CONTROL, off)));
                }
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

    /// The guest's own pages are all there while the process is measured, so that they do not count.
    fn measure(&mut self) {
        if self.made < self.next_look {
            return;
        }
        self.next_look = self.made + LOOK;
        let memory = self.driver.machine.memory.slice();
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
