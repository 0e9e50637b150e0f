//! A hypervisor that plays a script of exits, for tests of what stands around it.

use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::x86_64::Registers;
use super::{Error, Exit, Failure, Hypervisor, Kick, Vcpu, Vm};
use crate::platform;

/// One exit of the script, or what stands for many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scripted {
    MmioRead(u64, usize),
    MmioWrite(u64, Vec<u8>),
    PortRead(u16, usize),
    PortWrite(u16, Vec<u8>),
    Halted,
    Shutdown,
    Failed(Failure),
    /// The call itself fails.
    Error,
    /// The thread panics.
    Panic,
    /// The guest computes until somebody kicks.
    Busy,
    /// The thread waits, and no guest runs meanwhile.
    Waits(Duration),
    /// The guest counts down from so many.
    Computes(u32),
}

/// What the script's guest saw and what was done to its machine.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What each read returned.
    pub reads: Vec<Vec<u8>>,
    pub interrupts: Vec<u32>,
    pub mapped: Vec<(u64, usize)>,
    pub registers: Option<Registers>,
}

/// Plays one script for each vCPU; a vCPU whose script has ended is busy for ever.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    scripts: Vec<Vec<Scripted>>,
    seen: Arc<Mutex<Seen>>,
}

impl Fake {
    #[must_use]
    pub fn new(scripts: Vec<Vec<Scripted>>) -> Self {
        Self { scripts, seen: Arc::default() }
    }

    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hypervisor for Fake {
    type Vm = Self;

    fn create_vm(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl Vm for Fake {
    type Vcpu = FakeVcpu;

    unsafe fn map(&self, guest: u64, region: NonNull<[u8]>) -> Result<(), Error> {
        lock(&self.seen).mapped.push((guest, region.len()));
        Ok(())
    }

    fn interrupt(&self, line: u32) -> Result<(), Error> {
        lock(&self.seen).interrupts.push(line);
        Ok(())
    }

    fn create_vcpu(&self, index: u8, _count: u8) -> Result<FakeVcpu, Error> {
        let script = self.scripts.get(usize::from(index)).cloned().unwrap_or_default();
        Ok(FakeVcpu {
            script: script.into(),
            buffer: Vec::new(),
            reads: false,
            kicks: Arc::default(),
            seen: Arc::clone(&self.seen),
        })
    }
}

/// A vCPU that plays its script.
#[derive(Debug)]
pub struct FakeVcpu {
    script: VecDeque<Scripted>,
    buffer: Vec<u8>,
    /// The buffer is what a read of the guest gets.
    reads: bool,
    kicks: Arc<Kicks>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Kicks {
    kicked: Mutex<bool>,
    changed: Condvar,
}

/// Kicks a [`FakeVcpu`].
#[derive(Debug)]
pub struct FakeKick(Arc<Kicks>);

impl Kick for FakeKick {
    fn kick(&self) {
        *lock(&self.0.kicked) = true;
        self.0.changed.notify_all();
    }
}

impl FakeVcpu {
    /// Whether there was a kick; takes it back.
    fn take_kick(&self) -> bool {
        std::mem::take(&mut *lock(&self.kicks.kicked))
    }

    fn wait_for_kick(&self) {
        let mut kicked = lock(&self.kicks.kicked);
        while !*kicked {
            kicked = self.kicks.changed.wait(kicked).unwrap_or_else(PoisonError::into_inner);
        }
        *kicked = false;
    }
}

impl Vcpu for FakeVcpu {
    type Kick = FakeKick;

    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        lock(&self.seen).registers = Some(*registers);
        Ok(())
    }

    fn run(&mut self) -> Result<Exit<'_>, Error> {
        if std::mem::take(&mut self.reads) {
            lock(&self.seen).reads.push(self.buffer.clone());
        }
        if self.take_kick() {
            return Ok(Exit::Kicked);
        }
        Ok(match self.script.pop_front().unwrap_or(Scripted::Busy) {
            Scripted::MmioRead(address, length) => Exit::MmioRead(address, self.read(length)),
            Scripted::PortRead(port, length) => Exit::PortRead(port, self.read(length)),
            Scripted::MmioWrite(address, data) => Exit::MmioWrite(address, self.write(data)),
            Scripted::PortWrite(port, data) => Exit::PortWrite(port, self.write(data)),
            Scripted::Halted => Exit::Halted,
            Scripted::Shutdown => Exit::Shutdown,
            Scripted::Failed(failure) => Exit::Failed(failure),
            Scripted::Error => {
                return Err(Error { doing: "play on", source: io::Error::other("the script says so") });
            }
            Scripted::Panic => panic!("the script says so"),
            Scripted::Busy => {
                self.wait_for_kick();
                Exit::Kicked
            }
            Scripted::Waits(time) => {
                thread::sleep(time);
                Exit::Kicked
            }
            Scripted::Computes(steps) => {
                platform::count_down(steps);
                Exit::Kicked
            }
        })
    }

    fn kick(&self) -> FakeKick {
        FakeKick(Arc::clone(&self.kicks))
    }
}

impl FakeVcpu {
    fn read(&mut self, length: usize) -> &mut [u8] {
        self.reads = true;
        self.buffer = vec![0; length];
        &mut self.buffer
    }

    fn write(&mut self, data: Vec<u8>) -> &[u8] {
        self.buffer = data;
        &self.buffer
    }
}
