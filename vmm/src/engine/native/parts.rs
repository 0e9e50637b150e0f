//! The parts of a machine, put together before its guest runs.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use super::{Config, Error, Event, Stage};
use crate::board::Place;
use crate::board::x86_64::layout::{
    RESET, SERIAL, SERIAL_LINE, SLEEP_CONTROL, VIRTIO_SIZE, memory as memory_layout, virtio,
};
use crate::board::x86_64::power::Power;
use crate::board::x86_64::{Contents, prepare};
use crate::devices::serial::Serial;
use crate::devices::{Device, Line};
use crate::hypervisor::x86_64::Registers;
use crate::hypervisor::{Hypervisor, Vm};
use crate::memory::{self, Memory};
use crate::transport::mmio::{Mmio, Slot};
use crate::vcpu::Buses;

/// A device, with who works on it.
pub(super) type Named = (&'static str, Box<dyn Device>);

/// What runs, and what the first vCPU starts with.
pub(super) struct Parts<V> {
    pub(super) vm: Arc<V>,
    pub(super) buses: Arc<Buses>,
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) registers: Registers,
    /// The guest's memory outlives the machine that sees it.
    pub(super) _memory: Memory,
}

pub(super) fn assemble<H: Hypervisor>(
    hypervisor: &H,
    config: &Config,
    devices: Vec<Named>,
    events: &Sender<Event>,
) -> Result<Parts<H::Vm>, Error> {
    let places: Vec<_> = (0..devices.len()).map_while(virtio).collect();
    if places.len() < devices.len() {
        return Err(Error::Device(io::Error::other("there are more than the board has places")));
    }
    // Linux is long about making a machine, and waits most of that time: meanwhile the memory is filled.
    let (vm, filled) = thread::scope(|scope| {
        let vm = thread::Builder::new().name("vm".to_owned());
        let vm = vm.spawn_scoped(scope, || hypervisor.create_vm()).map_err(Error::Thread)?;
        let filled = fill(config, &places);
        Ok::<_, Error>((vm.join().unwrap_or_else(|panic| resume_unwind(panic)), filled))
    })?;
    let (vm, (memory, registers)) = (vm?, filled?);
    for (address, region) in memory::regions(&memory) {
        // SAFETY: the mapping belongs to `memory`, which is kept with the machine and dropped after it; nobody refers
        // into it but by volatile accesses.
        unsafe { vm.map(address, region) }?;
    }
    let mut assembly = Assembly { vm: Arc::new(vm), memory, buses: Buses::default(), slots: Vec::new() };
    assembly.fixed(config, events)?;
    for ((name, device), place) in devices.into_iter().zip(&places) {
        assembly.virtio(name, device, place)?;
    }
    let Assembly { vm, memory, buses, slots } = assembly;
    Ok(Parts { vm, buses: Arc::new(buses), slots, registers, _memory: memory })
}

/// The guest's memory with everything that it finds there, and what its first vCPU starts with.
fn fill(config: &Config, places: &[Place]) -> Result<(Memory, Registers), Error> {
    let memory = memory::allocate(&memory_layout(config.memory))?;
    config.watcher.tell(Stage::Memory);
    let contents = Contents {
        kernel: &config.kernel,
        initrd: config.initrd.as_ref(),
        command_line: &config.command_line,
        cpus: config.cpus,
        virtio: places,
    };
    let registers = prepare(&memory, &contents)?;
    config.watcher.tell(Stage::Kernel);
    Ok((memory, registers))
}

struct Assembly<V> {
    vm: Arc<V>,
    memory: Memory,
    buses: Buses,
    slots: Vec<Arc<Slot>>,
}

impl<V: Vm> Assembly<V> {
    /// What every machine has.
    fn fixed(&mut self, config: &Config, events: &Sender<Event>) -> Result<(), Error> {
        let output = config.console.try_clone().map_err(Error::Device)?;
        let serial = Serial::new(self.line(SERIAL_LINE), output).map_err(Error::Device)?;
        self.buses.ports.insert(SERIAL.start.into()..SERIAL.end.into(), Arc::new(serial));
        let events = events.clone();
        let power = Power::new(move |wish| drop(events.send(Event::Guest(wish))));
        let ports = u64::from(SLEEP_CONTROL)..u64::from(RESET).saturating_add(1);
        self.buses.ports.insert(ports, Arc::new(power));
        Ok(())
    }

    fn virtio(&mut self, name: &'static str, device: Box<dyn Device>, place: &Place) -> Result<(), Error> {
        let line = self.line(place.line);
        let slot = Arc::new(Slot::new(name, device, self.memory.clone(), line).map_err(Error::Device)?);
        let range = place.address..place.address.saturating_add(VIRTIO_SIZE);
        self.buses.memory.insert(range, Arc::new(Mmio::new(Arc::clone(&slot))));
        self.slots.push(slot);
        Ok(())
    }

    fn line(&self, number: u32) -> Line {
        let vm = Arc::clone(&self.vm);
        Line::new(move || {
            if let Err(error) = vm.interrupt(number) {
                tracing::error!(error = &error as &dyn std::error::Error, number, "an interrupt is lost");
            }
        })
    }
}
