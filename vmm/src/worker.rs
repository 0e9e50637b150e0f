//! A thread that works on devices: whenever a driver has kicked one, or its host's side has something to do; until it is
//! paused, when nothing of theirs is under way any more.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::platform::sandbox::{Class, Confinement};
use crate::platform::{Interest, Poller, Wake};
use crate::process::with_causes;
use crate::transport::mmio::Slot;

const ORDERS: u64 = u64::MAX - 1;
const READABLE: Interest = Interest { read: true, write: false };

#[derive(Debug)]
enum Order {
    Pause(Sender<()>),
    Resume,
    Stop,
}

/// The thread. Dropping it stops the thread and waits for it; its devices stay where they are, with nothing under way.
#[derive(Debug)]
pub(crate) struct Worker {
    orders: Sender<Order>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Works on these devices. `failed` is told when it no longer can.
    pub(crate) fn spawn(
        name: &str,
        slots: Vec<Arc<Slot>>,
        (confinement, class): (Confinement, Class),
        failed: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, received) = channel();
        let wake = Arc::new(Wake::new()?);
        let poller = Poller::new()?;
        poller.add(&*wake, ORDERS, READABLE)?;
        for (number, slot) in (0_u64..).zip(&slots) {
            let (kicks, host) = slot.descriptors();
            for descriptor in [Some(kicks), host].into_iter().flatten() {
                // SAFETY: the slot owns it, and lives as long as the thread that polls it.
                poller.add(unsafe { BorrowedFd::borrow_raw(descriptor) }, number, READABLE)?;
            }
        }
        let label = name.to_owned();
        let woken = Arc::clone(&wake);
        let thread = crate::thread::named(name).spawn(move || {
            let work = || match confinement.confine(class) {
                Ok(()) => work(poller, &slots, &woken, &received).map_err(|error| error.to_string()),
                Err(error) => Err(with_causes(&error)),
            };
            let why = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why,
                Err(_) => "it panicked".to_owned(),
            };
            slots.iter().for_each(|slot| slot.fail());
            failed(format!("the thread of {label} failed: {why}"));
        })?;
        Ok(Self { orders, wake, thread: Some(thread) })
    }

    /// What it returns receives when the thread has paused, and an error if it has ended.
    pub(crate) fn pause(&self) -> Receiver<()> {
        let (paused, waiting) = channel();
        self.give(Order::Pause(paused));
        waiting
    }

    pub(crate) fn resume(&self) {
        self.give(Order::Resume);
    }

    fn give(&self, order: Order) {
        // A thread that has ended takes no orders.
        if self.orders.send(order).is_ok() {
            self.wake.wake();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.give(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut poller: Poller, slots: &[Arc<Slot>], wake: &Wake, orders: &Receiver<Order>) -> io::Result<()> {
    let mut events = Vec::new();
    loop {
        poller.wait(&mut events)?;
        for event in &events {
            if event.token == ORDERS {
                wake.consume();
                if heed(orders, slots).is_break() {
                    return Ok(());
                }
                continue;
            }
            let slot = usize::try_from(event.token).ok().and_then(|number| slots.get(number));
            if let Some(slot) = slot {
                slot.process(Instant::now());
            }
        }
    }
}

/// Heeds all orders so far, and those that come while it is paused.
fn heed(orders: &Receiver<Order>, slots: &[Arc<Slot>]) -> ControlFlow<()> {
    let mut next = orders.try_recv().ok();
    while let Some(order) = next {
        next = match order {
            Order::Pause(paused) => {
                slots.iter().for_each(|slot| slot.settle());
                let _ = paused.send(());
                Some(orders.recv().unwrap_or(Order::Stop))
            }
            Order::Resume => orders.try_recv().ok(),
            Order::Stop => {
                slots.iter().for_each(|slot| slot.settle());
                return ControlFlow::Break(());
            }
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::RecvTimeoutError;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::devices::Line;
    use crate::devices::blk::Blk;
    use crate::devices::testing::{Buffer, Driver, slow_disk};

    const SOON: Duration = Duration::from_secs(120);
    const A_WHILE: Duration = Duration::from_millis(50);

    /// Cloud Hypervisor #8356: requests that were under way when the machine was paused.
    #[test]
    fn a_disk_pauses_when_what_it_was_asked_is_answered() {
        let Some((_directory, disk, mut pipe)) = slow_disk() else { return };
        let mut driver = Driver::new();
        let blk = Box::new(Blk::new(disk, |why| panic!("{why}")));
        let slot = Arc::new(Slot::new("disk", blk, driver.memory.clone(), Line::new(|| {})).unwrap());
        slot.activate(0, vec![std::mem::take(&mut driver.queue)]);
        let worker =
            Worker::spawn("disk", vec![Arc::clone(&slot)], (Confinement::default(), Class::Disk), |_| {})
                .unwrap();
        let read = [0; 16];
        driver.send_from(0, &[Buffer::Filled(&read), Buffer::ToFill(513)]);
        slot.kick();
        sleep(A_WHILE);
        let paused = worker.pause();
        let told = paused.recv_timeout(A_WHILE);
        pipe.write_all(&[7; 512]).unwrap();
        assert_eq!(told, Err(RecvTimeoutError::Timeout), "it is still under way");
        paused.recv_timeout(SOON).unwrap();
        assert_eq!(driver.used(), (1, 513));

        pipe.write_all(&[9; 512]).unwrap();
        driver.send_from(3, &[Buffer::Filled(&read), Buffer::ToFill(513)]);
        slot.kick();
        sleep(A_WHILE);
        assert_eq!(driver.used().0, 1, "it is paused");
        worker.pause().recv_timeout(SOON).unwrap();
        worker.resume();
        let deadline = Instant::now() + SOON;
        while driver.used().0 < 2 && Instant::now() < deadline {
            sleep(Duration::from_millis(1));
        }
        assert_eq!(driver.heads(), [0, 3], "the kick was not lost");
        worker.pause();
        drop(worker);
    }
}
