//! The parts of a machine, put together before its guest runs.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use super::{Config, Error, Event, Stage};
use crate::board::{Contents, Place, VIRTIO_SIZE, add_fixed, memory_layout, prepare, virtio};
use crate::devices::{Device, Line};
use crate::hypervisor::{Hypervisor, Registers, Vm};
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
        let vm = crate::thread::named("vm");
        let vm = vm.spawn_scoped(scope, || hypervisor.create_vm()).map_err(Error::Thread)?;
        let filled = fill(config, &places);
        Ok::<_, Error>((vm.join().unwrap_or_else(|panic| resume_unwind(panic)), filled))
    })?;
    // What is declared first goes last: the memory outlives the machine that sees it.
    let (memory, registers) = filled?;
    let vm = vm?;
    for (address, region) in memory::regions(&memory) {
        // SAFETY: the mapping belongs to `memory`, which is kept with the machine and dropped after it; nobody refers
        // into it but by volatile accesses.
        unsafe { vm.map(address, region) }?;
    }
    let mut assembly = Assembly { vm: Arc::new(vm), memory, buses: Buses::default(), slots: Vec::new() };
    assembly.fixed(config, events)?;
    for ((name, device), place) in devices.into_iter().zip(&places) {
        assembly.virtio(name, device, place, events)?;
    }
    let Assembly { buses, slots, vm, memory } = assembly;
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

/// Its fields go in this order, should it not be finished.
struct Assembly<V> {
    buses: Buses,
    slots: Vec<Arc<Slot>>,
    vm: Arc<V>,
    memory: Memory,
}

impl<V: Vm> Assembly<V> {
    /// What every machine has.
    fn fixed(&mut self, config: &Config, events: &Sender<Event>) -> Result<(), Error> {
        let output = config.console.try_clone().map_err(Error::Device)?;
        let events = events.clone();
        let wish = move |wish| drop(events.send(Event::Guest(wish)));
        add_fixed(&mut self.buses, |number| line(&self.vm, number), output, wish).map_err(Error::Device)
    }

    fn virtio(
        &mut self,
        name: &'static str,
        device: Box<dyn Device>,
        place: &Place,
        events: &Sender<Event>,
    ) -> Result<(), Error> {
        let line = line(&self.vm, place.line);
        let events = events.clone();
        let slot = Slot::new(name, device, self.memory.clone(), line).map_err(Error::Device)?;
        let slot = Arc::new(slot.telling_of_its_driver(move || drop(events.send(Event::Driver))));
        let range = place.address..place.address.saturating_add(VIRTIO_SIZE);
        self.buses.memory.insert(range, Arc::new(Mmio::new(Arc::clone(&slot))));
        self.slots.push(slot);
        Ok(())
    }
}

/// By which a device interrupts the guest.
fn line(vm: &Arc<impl Vm>, number: u32) -> Line {
    let vm = Arc::clone(vm);
    Line::new(move || {
        if let Err(error) = vm.interrupt(number) {
            tracing::error!(error = &error as &dyn std::error::Error, number, "an interrupt is lost");
        }
    })
}
