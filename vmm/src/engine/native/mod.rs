//! A machine of our own: vCPUs on threads of this process, devices on virtio-mmio beside them.

mod machine;
mod pace;
mod parts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub use machine::run;

use crate::board::{BoardError, Wish};
use crate::devices::blk::Disk;
use crate::devices::vsock::Vsock;
use crate::hypervisor;
use crate::memory::MemoryError;
use crate::platform::sandbox::{Confinement, SandboxError};
use crate::vcpu::News;

/// What a machine is made of. Everything of the host's that it needs is open already.
#[derive(Debug)]
pub struct Config {
    pub cpus: u8,
    pub memory: u64,
    pub kernel: File,
    pub initrd: Option<File>,
    pub command_line: String,
    /// In the order in which the guest finds them: `/dev/vda`, `/dev/vdb`.
    pub disks: Vec<Disk>,
    /// The stream to the network process; a machine without one has no network.
    pub network: Option<OwnedFd>,
    pub vsock: Option<Vsock>,
    /// Bytes of its memory that the guest is asked to give up from the start.
    pub balloon: u64,
    /// What the guest prints goes here; a stream that may be made nonblocking.
    pub console: OwnedFd,
    /// For each of its threads, and for the one that calls [`run`] once all the others are there.
    pub confinement: Confinement,
    pub watcher: Watcher,
}

/// How far a machine's start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The guest's memory is there.
    Memory,
    /// Kernel and tables are in it.
    Kernel,
    /// The machine is there, with its devices.
    Board,
    /// The first vCPU is about to run.
    Running,
    /// The guest's first driver has its device.
    Driver,
}

impl Stage {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Kernel => "kernel",
            Self::Board => "board",
            Self::Running => "running",
            Self::Driver => "driver",
        }
    }
}

/// Is told of each stage once, as it ends, from the thread that runs the machine.
#[derive(Clone)]
pub struct Watcher(Arc<dyn Fn(Stage) + Send + Sync>);

impl Watcher {
    pub fn new(watch: impl Fn(Stage) + Send + Sync + 'static) -> Self {
        Self(Arc::new(watch))
    }

    fn tell(&self, stage: Stage) {
        (self.0)(stage);
    }
}

/// Nobody is told.
impl Default for Watcher {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} processors cannot be had; give from 1 to 32")]
    Cpus(u8),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    #[error(transparent)]
    Board(#[from] BoardError),
    #[error("cannot make the guest's devices")]
    Device(#[source] io::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// What happens to a machine.
#[derive(Debug)]
enum Event {
    Vcpu(News),
    Guest(Wish),
    /// A device has a driver for the first time.
    Driver,
    /// A part of the machine can no longer work.
    Trouble(String),
    Order(Order),
}

#[derive(Debug)]
enum Order {
    /// With who waits for it.
    Pause(Sender<()>),
    Resume,
    PressPowerButton,
    Stop,
}

/// Orders to a machine, from any thread, before and while it runs. One that nobody controls any more runs on until its
/// guest ends.
#[derive(Debug, Clone)]
pub struct Control(Sender<Event>);

/// The machine's end of its [`Control`]s.
#[derive(Debug)]
pub struct Orders {
    events: Sender<Event>,
    waiting: Receiver<Event>,
}

/// A machine's orders, and what gives them.
pub fn control() -> (Control, Orders) {
    let (events, waiting) = channel();
    (Control(events.clone()), Orders { events, waiting })
}

impl Control {
    /// Every vCPU stands still until [`Control::resume`], and so does every device, once what it has under way is done.
    /// What this returns receives when that is so, and an error if the machine goes on or ends before.
    pub fn pause(&self) -> Receiver<()> {
        let (paused, waiting) = channel();
        self.give(Order::Pause(paused));
        waiting
    }

    pub fn resume(&self) {
        self.give(Order::Resume);
    }

    /// The guest is asked to end itself.
    pub fn press_power_button(&self) {
        self.give(Order::PressPowerButton);
    }

    /// Ends the machine as by a pulled plug.
    pub fn stop(&self) {
        self.give(Order::Stop);
    }

    fn give(&self, order: Order) {
        // A machine that has ended takes no orders.
        let _ = self.0.send(Event::Order(order));
    }
}
