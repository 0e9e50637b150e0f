//! A device with its queues, for the thread that works on it.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use virtio_queue::{Queue, QueueT};

use crate::devices::{Device, Line, RingError, Signals};
use crate::log_gate::LogGate;
use crate::memory::Memory;
use crate::platform::Wake;

/// Bits of the interrupt status (virtio 1.3, 4.2.2): buffers were used, and the configuration or status has changed.
const USED: u32 = 1;
const CHANGED: u32 = 2;
/// The bit of the device status (2.1) that says that only a reset helps.
const NEEDS_RESET: u32 = 64;

/// A device at its place on the board.
#[derive(Debug)]
pub(crate) struct Slot {
    name: &'static str,
    memory: Memory,
    work: Mutex<Work>,
    /// The driver has kicked a queue, or is up.
    wake: Wake,
    line: Line,
    interrupts: AtomicU32,
    needs_reset: AtomicBool,
}

struct Work {
    device: Box<dyn Device>,
    /// None while there is no driver.
    queues: Vec<Queue>,
    /// Called when the device has a driver, once: a guest may set it up as often as it likes.
    driven: Option<Box<dyn FnOnce() + Send>>,
    complaints: LogGate,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("queues", &self.queues).finish_non_exhaustive()
    }
}

impl Slot {
    pub(crate) fn new(
        name: &'static str,
        device: Box<dyn Device>,
        memory: Memory,
        line: Line,
    ) -> std::io::Result<Self> {
        let work = Work { device, queues: Vec::new(), driven: None, complaints: LogGate::default() };
        Ok(Self {
            name,
            memory,
            work: Mutex::new(work),
            wake: Wake::new()?,
            line,
            interrupts: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
        })
    }

    /// Whoever wants to know when it has its first driver.
    #[must_use]
    pub(crate) fn telling_of_its_driver(self, tell: impl FnOnce() + Send + 'static) -> Self {
        self.work().driven = Some(Box::new(tell));
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_device<T>(&self, act: impl FnOnce(&mut dyn Device) -> T) -> T {
        act(self.work().device.as_mut())
    }

    /// From a vCPU, without a lock.
    pub(crate) fn kick(&self) {
        self.wake.wake();
    }

    pub(super) fn interrupt_status(&self) -> u32 {
        self.interrupts.load(Ordering::Acquire)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.interrupts.fetch_and(!bits, Ordering::AcqRel);
    }

    /// What the device status shows beside what the driver has written.
    pub(super) fn trouble(&self) -> u32 {
        if self.needs_reset.load(Ordering::Acquire) { NEEDS_RESET } else { 0 }
    }

    pub(crate) fn activate(&self, features: u64, queues: Vec<Queue>) {
        let mut work = self.work();
        // What cannot be used at all is found before the device is told.
        if queues.iter().any(|queue| queue.ready() && !queue.is_valid(&self.memory)) {
            return self.stop(&mut work, &RingError::Invalid);
        }
        work.queues = queues;
        work.device.activate(features, Instant::now());
        if let Some(tell) = work.driven.take() {
            tell();
        }
        self.wake.wake();
    }

    pub(super) fn reset(&self) {
        let mut work = self.work();
        work.queues.clear();
        work.device.reset();
        self.interrupts.store(0, Ordering::Release);
        self.needs_reset.store(false, Ordering::Release);
    }

    /// Does what can be done now.
    pub(crate) fn process(&self, now: Instant) {
        self.wake.consume();
        self.act(|device, memory, queues| device.process(memory, queues, now));
    }

    /// Waits until the device has nothing under way.
    pub(crate) fn settle(&self) {
        self.act(|device, memory, queues| device.settle(memory, queues));
    }

    fn act(&self, act: impl FnOnce(&mut dyn Device, &Memory, &mut [Queue]) -> Result<Signals, RingError>) {
        let mut work = self.work();
        let Work { device, queues, .. } = &mut *work;
        match act(device.as_mut(), &self.memory, queues) {
            Ok(signals) => {
                if signals.any() {
                    self.interrupt(USED);
                }
                if signals.goes_on() {
                    self.wake.wake();
                }
            }
            Err(error) => self.stop(&mut work, &error),
        }
    }

    /// The guest broke the device: it does nothing until it is reset (virtio 1.3, 2.1.2).
    fn stop(&self, work: &mut Work, error: &RingError) {
        if let Some(held_back) = work.complaints.open() {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, held_back, "the {} device stops until reset", self.name);
        }
        work.queues.clear();
        work.device.broke();
        self.fail();
    }

    /// From now on the device does nothing until it is reset.
    pub(crate) fn fail(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.interrupt(CHANGED);
    }

    fn interrupt(&self, why: u32) {
        self.interrupts.fetch_or(why, Ordering::AcqRel);
        self.line.raise();
    }

    /// Readable when [`Slot::process`] has something to do: for a kick, and for the host's side where there is one.
    pub(crate) fn descriptors(&self) -> (RawFd, Option<RawFd>) {
        (self.wake.as_fd().as_raw_fd(), self.work().device.descriptor().map(|fd| fd.as_raw_fd()))
    }
}
