//! One machine while it runs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::pace::Pace;
use super::parts::{Named, Parts, assemble};
use super::{Config, Error, Event, Order, Orders, Stage, Watcher};
use crate::board::{POWER_BUTTON_LINE, Wish};
use crate::devices::balloon::Balloon;
use crate::devices::blk::Blk;
use crate::devices::console::Console;
use crate::devices::net::Net;
use crate::devices::rng::Rng;
use crate::engine::Outcome;
use crate::hypervisor::{Hypervisor, Vcpu, Vm};
use crate::platform::sandbox::{Class, Confinement};
use crate::process::with_causes;
use crate::transport::mmio::Slot;
use crate::vcpu::{self, Ended, Handle, News, Start};
use crate::worker::Worker;

const MOST_CPUS: u8 = 32;
/// Who works on devices, as threads are called.
const SMALL: &str = "devices";
const DISK: &str = "disk";
const NETWORK: &str = "network";
const VSOCK: &str = "vsock";

/// Runs a machine from its start to its end. Returns with every thread joined.
pub fn run<H: Hypervisor>(hypervisor: &H, mut config: Config, orders: Orders) -> Result<Outcome, Error> {
    if !(1..=MOST_CPUS).contains(&config.cpus) {
        return Err(Error::Cpus(config.cpus));
    }
    let Orders { events, waiting } = orders;
    let devices = devices(&mut config, &events)?;
    let parts = assemble(hypervisor, &config, devices, &events)?;
    config.watcher.tell(Stage::Board);
    let workers = workers(&parts.slots, &config.confinement, &events).map_err(Error::Thread)?;
    let vcpus = start(&config, &parts, &events)?;
    config.confinement.confine(Class::Main)?;
    let outcome = follow(&parts, Pace::new(&vcpus, &workers, &config.watcher), &waiting, &config.watcher);
    // All of them at once: one may have a device to wait for.
    vcpus.iter().for_each(Handle::stop);
    drop((vcpus, workers));
    Ok(outcome)
}

/// The devices on virtio-mmio, with who works on them: those of one name share a thread.
fn devices(config: &mut Config, events: &Sender<Event>) -> Result<Vec<Named>, Error> {
    let console = config.console.try_clone().and_then(Console::new).map_err(Error::Device)?;
    let mut devices: Vec<Named> = vec![(SMALL, Box::new(console)), (SMALL, Box::new(Rng))];
    for disk in config.disks.drain(..) {
        // The guest's journal makes good what was under way, as after a power cut; going on would only break more.
        let events = events.clone();
        let trouble = move |why| drop(events.send(Event::Trouble(why)));
        devices.push((DISK, Box::new(Blk::new(disk, trouble))));
    }
    devices.push((SMALL, Box::new(Balloon::new(config.balloon))));
    if let Some(wire) = config.network.take() {
        devices.push((NETWORK, Box::new(Net::new(wire).map_err(Error::Device)?)));
    }
    if let Some(vsock) = config.vsock.take() {
        devices.push((VSOCK, Box::new(vsock)));
    }
    Ok(devices)
}

/// Each disk has a thread of its own, since a disk may be slow; so have network and vsock, since they may be busy. The
/// others are neither and share one.
fn workers(
    slots: &[Arc<Slot>],
    confinement: &Confinement,
    events: &Sender<Event>,
) -> std::io::Result<Vec<Worker>> {
    let (small, large): (Vec<_>, Vec<_>) = slots.iter().cloned().partition(|slot| slot.name() == SMALL);
    let groups = std::iter::once(small).chain(large.into_iter().map(|slot| vec![slot]));
    groups
        .filter_map(|group| Some((group.first()?.name(), group)))
        .map(|(name, group)| {
            let events = events.clone();
            let class = class(name);
            Worker::spawn(name, group, (confinement.clone(), class), move |why| {
                drop(events.send(Event::Trouble(why)));
            })
        })
        .collect()
}

fn class(name: &str) -> Class {
    match name {
        DISK => Class::Disk,
        NETWORK => Class::Network,
        VSOCK => Class::Vsock,
        _ => Class::Devices,
    }
}

fn start<V: Vm>(
    config: &Config,
    parts: &Parts<V>,
    events: &Sender<Event>,
) -> Result<Vec<Handle<<V::Vcpu as Vcpu>::Kick>>, Error> {
    let spawn = |index| {
        let events = events.clone();
        vcpu::spawn(Start {
            vm: Arc::clone(&parts.vm),
            index,
            count: config.cpus,
            registers: (index == 0).then_some(parts.registers),
            buses: Arc::clone(&parts.buses),
            confinement: config.confinement.clone(),
            news: Box::new(move |news| drop(events.send(Event::Vcpu(news)))),
        })
    };
    (0..config.cpus).map(spawn).collect::<std::io::Result<Vec<_>>>().map_err(Error::Thread)
}

/// Passes orders on until the machine has ended.
fn follow<V: Vm>(
    parts: &Parts<V>,
    mut pace: Pace<'_, <V::Vcpu as Vcpu>::Kick>,
    waiting: &Receiver<Event>,
    watcher: &Watcher,
) -> Outcome {
    let mut watcher = Some(watcher);
    while let Ok(event) = waiting.recv() {
        match event {
            Event::Vcpu(News::Paused) => pace.paused(),
            Event::Vcpu(News::Ended(_, Ended::Reset)) | Event::Guest(Wish::Reset) => return Outcome::Reset,
            Event::Vcpu(News::Ended(number, ended)) => {
                return Outcome::Failed(format!("vCPU {number}: {}", with_causes(&ended)));
            }
            Event::Guest(Wish::PowerOff) => return Outcome::PoweredOff,
            Event::Trouble(why) => return Outcome::Failed(why),
            Event::Driver => {
                if let Some(watcher) = watcher.take() {
                    watcher.tell(Stage::Driver);
                }
            }
            Event::Order(Order::Pause(paused)) => pace.pause(paused),
            Event::Order(Order::Resume) => pace.resume(),
            Event::Order(Order::PressPowerButton) => {
                if let Err(error) = parts.vm.interrupt(POWER_BUTTON_LINE) {
                    return Outcome::Failed(with_causes(&error));
                }
            }
            Event::Order(Order::Stop) => return Outcome::Stopped,
        }
    }
    Outcome::Stopped
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use virtio_queue::Queue;

    use super::*;
    use crate::bus::Registers;
    use crate::devices::{Device, Line, RingError, Signals};
    use crate::memory::{self, Memory};
    use crate::transport::mmio::Mmio;

    /// Says that it works, and works until somebody takes that in.
    struct Slow(mpsc::SyncSender<&'static str>, &'static str);

    impl Device for Slow {
        fn id(&self) -> u32 {
            2
        }

        fn queue_sizes(&self) -> &'static [u16] {
            &[16]
        }

        fn process(
            &mut self,
            _memory: &Memory,
            _queues: &mut [Queue],
            _now: Instant,
        ) -> Result<Signals, RingError> {
            let _ = self.0.send(self.1);
            Ok(Signals::default())
        }
    }

    #[test]
    fn a_slow_disk_holds_no_other_device_up() {
        // Firecracker #5260: all devices had one thread.
        let (mut slots, mut ends) = (Vec::new(), Vec::new());
        for name in [DISK, SMALL, DISK, NETWORK, VSOCK] {
            // Nobody takes in what the first one says.
            let (working, seen) = mpsc::sync_channel(0);
            let device = Box::new(Slow(working, name));
            slots
                .push(Arc::new(Slot::new(name, device, memory::of_size(1 << 20), Line::new(|| ())).unwrap()));
            ends.push(seen);
        }
        let (events, _told) = mpsc::channel();
        let workers = workers(&slots, &Confinement::default(), &events).unwrap();
        for slot in &slots {
            const QUEUE_NOTIFY: u64 = 0x050;
            Mmio::new(Arc::clone(slot)).write(QUEUE_NOTIFY, &[0; 4]);
        }
        let others: Vec<_> =
            ends.iter().skip(1).map(|seen| seen.recv_timeout(Duration::from_secs(120))).collect();
        // Before the workers, who are waited for.
        drop(ends);
        drop(workers);
        assert_eq!(others, [SMALL, DISK, NETWORK, VSOCK].map(Ok));
    }
}
