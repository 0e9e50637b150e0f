//! A vCPU's thread as a state machine behind a handle.
//!
//! ```text
//!             run                     run returns
//!   paused ---------> running ------------------------> running
//!     ^  |              |   |
//!     |  |    pause     |   | the guest ends, or fails
//!     +--|--------------+   v
//!        +---- stop ----> ended
//! ```
//!
//! Orders go to the thread through a channel and a kick, what becomes of them comes back as [`News`]. The thread makes
//! its vCPU itself, and is joined when the handle is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::bus::Bus;
use crate::hypervisor::{Error, Exit, Failure, Kick, Registers, Vcpu, Vm};
use crate::platform::sandbox::{Class, Confinement, SandboxError};

/// What a guest sees of its machine.
#[derive(Debug, Default)]
pub(crate) struct Buses {
    pub(crate) memory: Bus,
    pub(crate) ports: Bus,
}

/// What a vCPU tells.
#[derive(Debug)]
pub(crate) enum News {
    /// It is paused now: it was told to, or has been made.
    Paused,
    Ended(u8, Ended),
}

/// Why a vCPU runs no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("it was stopped")]
    Stopped,
    /// A triple fault.
    #[error("the guest reset itself")]
    Reset,
    #[error("the guest halted a processor that nothing can wake")]
    Halted,
    #[error("the hypervisor cannot go on: {0}")]
    Failure(Failure),
    #[error(transparent)]
    Hypervisor(#[from] Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the thread of a vCPU panicked")]
    Panicked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Pause,
    Stop,
}

/// A vCPU on its thread. Dropping it stops the vCPU and waits for the thread.
#[derive(Debug)]
pub(crate) struct Handle<K: Kick> {
    orders: Sender<Order>,
    /// None where the vCPU could not be made.
    kick: Option<K>,
    thread: Option<JoinHandle<()>>,
}

/// Is told what becomes of a vCPU.
pub(crate) type Tell = Box<dyn Fn(News) + Send>;

/// What the thread is made with.
pub(crate) struct Start<V> {
    pub(crate) vm: Arc<V>,
    pub(crate) index: u8,
    pub(crate) count: u8,
    /// Only the first has any.
    pub(crate) registers: Option<Registers>,
    pub(crate) buses: Arc<Buses>,
    pub(crate) confinement: Confinement,
    pub(crate) news: Tell,
}

type KickOf<V> = <<V as Vm>::Vcpu as Vcpu>::Kick;

/// Starts the thread; its vCPU is paused, which comes as the first news.
pub(crate) fn spawn<V: Vm>(start: Start<V>) -> std::io::Result<Handle<KickOf<V>>> {
    let (orders, received) = channel();
    let (kicks, kick) = channel();
    let thread = crate::thread::named(format!("vcpu{}", start.index)).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| live(&start, &received, &kicks)));
        (start.news)(News::Ended(start.index, ended.unwrap_or(Ended::Panicked)));
    })?;
    Ok(Handle { orders, kick: kick.recv().ok(), thread: Some(thread) })
}

impl<K: Kick> Handle<K> {
    pub(crate) fn run(&self) {
        self.give(Order::Run);
    }

    pub(crate) fn pause(&self) {
        self.give(Order::Pause);
    }

    pub(crate) fn stop(&self) {
        self.give(Order::Stop);
    }

    fn give(&self, order: Order) {
        // A thread that has ended takes no orders.
        if self.orders.send(order).is_ok()
            && let Some(kick) = &self.kick
        {
            kick.kick();
        }
    }
}

impl<K: Kick> Drop for Handle<K> {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn live<V: Vm>(start: &Start<V>, orders: &Receiver<Order>, kicks: &Sender<KickOf<V>>) -> Ended {
    let mut vcpu = match make(start) {
        Ok(vcpu) => vcpu,
        Err(error) => return Ended::Hypervisor(error),
    };
    // Making a vCPU takes calls that running it does not.
    if let Err(error) = start.confinement.confine(Class::Vcpu) {
        return Ended::Sandbox(error);
    }
    let _ = kicks.send(vcpu.kick());
    loop {
        (start.news)(News::Paused);
        loop {
            match orders.recv() {
                Ok(Order::Run) => break,
                Ok(Order::Pause) => {}
                Ok(Order::Stop) | Err(_) => return Ended::Stopped,
            }
        }
        if let Some(ended) = run(&mut vcpu, orders, &start.buses) {
            return ended;
        }
    }
}

fn make<V: Vm>(start: &Start<V>) -> Result<V::Vcpu, Error> {
    let mut vcpu = start.vm.create_vcpu(start.index, start.count)?;
    if let Some(registers) = &start.registers {
        vcpu.set_registers(registers)?;
    }
    Ok(vcpu)
}

/// Runs the guest until it is to pause (`None`) or has ended.
fn run(vcpu: &mut impl Vcpu, orders: &Receiver<Order>, buses: &Buses) -> Option<Ended> {
    loop {
        match vcpu.run() {
            Ok(Exit::MmioRead(address, data)) => buses.memory.read(address, data),
            Ok(Exit::MmioWrite(address, data)) => buses.memory.write(address, data),
            Ok(Exit::PortRead(port, data)) => buses.ports.read(port.into(), data),
            Ok(Exit::PortWrite(port, data)) => buses.ports.write(port.into(), data),
            Ok(Exit::Kicked) => match heed(orders) {
                Some(Order::Stop) => return Some(Ended::Stopped),
                Some(Order::Pause) => return None,
                Some(Order::Run) | None => {}
            },
            Ok(Exit::Halted) => return Some(Ended::Halted),
            Ok(Exit::Shutdown) => return Some(Ended::Reset),
            Ok(Exit::Failed(failure)) => return Some(Ended::Failure(failure)),
            Err(error) => return Some(Ended::Hypervisor(error)),
        }
    }
}

/// What all orders so far come to. None may be left: one kick may stand for many of them.
fn heed(orders: &Receiver<Order>) -> Option<Order> {
    let mut heeded = None;
    for order in orders.try_iter() {
        heeded = Some(order);
        if order == Order::Stop {
            break;
        }
    }
    heeded
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::hypervisor::fake::{Fake, FakeKick, Scripted};

    const SOON: Duration = Duration::from_secs(120);

    fn start(script: Vec<Scripted>) -> (Handle<FakeKick>, mpsc::Receiver<News>, Fake) {
        let fake = Fake::new(vec![script]);
        let (news, told) = channel();
        let start = Start {
            vm: Arc::new(fake.clone()),
            index: 0,
            count: 1,
            registers: None,
            buses: Arc::new(Buses::default()),
            confinement: Confinement::default(),
            news: Box::new(move |told| drop(news.send(told))),
        };
        let handle = spawn(start).unwrap();
        assert!(matches!(told.recv_timeout(SOON), Ok(News::Paused)), "it begins paused");
        (handle, told, fake)
    }

    fn end(script: Vec<Scripted>) -> String {
        let (handle, told, _) = start(script);
        handle.run();
        match told.recv_timeout(SOON) {
            Ok(News::Ended(0, ended)) => ended.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_guest_that_ends_is_told_how() {
        assert_eq!(end(vec![Scripted::Shutdown]), "the guest reset itself");
        assert_eq!(end(vec![Scripted::Halted]), "the guest halted a processor that nothing can wake");
        assert_eq!(end(vec![Scripted::Error]), "the hypervisor cannot play on");
        let failed = end(vec![Scripted::PortWrite(1, vec![1]), Scripted::Failed(Failure::Emulation)]);
        assert!(failed.contains("it has to emulate an instruction that it does not know"), "{failed}");
    }

    #[test]
    fn a_panic_ends_its_vcpu_and_is_told() {
        assert_eq!(end(vec![Scripted::Panic]), "the thread of a vCPU panicked");
    }

    #[test]
    fn a_busy_guest_pauses_goes_on_and_stops() {
        let (handle, told, _) = start(vec![]);
        for _ in 0..3 {
            handle.run();
            handle.pause();
            assert!(matches!(told.recv_timeout(SOON), Ok(News::Paused)));
        }
        handle.run();
        handle.stop();
        assert!(matches!(told.recv_timeout(SOON), Ok(News::Ended(0, Ended::Stopped))));
    }

    /// A kick that ends one run of the guest may stand for many orders.
    #[test]
    fn orders_that_come_in_a_rush_are_all_heeded() {
        let (handle, told, _) = start(vec![]);
        for _ in 0..1000 {
            handle.run();
            handle.pause();
        }
        handle.run();
        handle.stop();
        let end =
            std::iter::from_fn(|| told.recv_timeout(SOON).ok()).find(|news| !matches!(news, News::Paused));
        assert!(matches!(end, Some(News::Ended(0, Ended::Stopped))), "{end:?}");
    }

    #[test]
    fn dropping_the_handle_stops_a_busy_guest() {
        let (handle, told, _) = start(vec![]);
        handle.run();
        drop(handle);
        assert!(matches!(told.recv_timeout(SOON), Ok(News::Ended(0, Ended::Stopped))));
    }

    #[test]
    fn nobody_answers_where_no_device_is() {
        let (handle, told, fake) =
            start(vec![Scripted::MmioRead(0xd000_0000, 4), Scripted::PortRead(0x3f8, 1), Scripted::Shutdown]);
        handle.run();
        assert!(matches!(told.recv_timeout(SOON), Ok(News::Ended(..))));
        assert_eq!(fake.seen().reads, [vec![0xff; 4], vec![0xff]]);
    }
}
