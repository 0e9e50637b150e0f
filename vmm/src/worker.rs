//! A thread that works on devices: whenever a driver has kicked one, or its host's side has something to do.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::platform::sandbox::{Class, Confinement};
use crate::platform::{Interest, Poller, Wake};
use crate::process::with_causes;
use crate::transport::mmio::Slot;

const STOP: u64 = u64::MAX - 1;
const READABLE: Interest = Interest { read: true, write: false };

/// The thread. Dropping it stops the thread and waits for it; its devices stay where they are.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<Wake>,
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
        let stop = Arc::new(Wake::new()?);
        let poller = Poller::new()?;
        poller.add(&*stop, STOP, READABLE)?;
        for (number, slot) in (0_u64..).zip(&slots) {
            let (kicks, host) = slot.descriptors();
            for descriptor in [Some(kicks), host].into_iter().flatten() {
                // SAFETY: the slot owns it, and lives as long as the thread that polls it.
                poller.add(unsafe { BorrowedFd::borrow_raw(descriptor) }, number, READABLE)?;
            }
        }
        let label = name.to_owned();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let work = || match confinement.confine(class) {
                Ok(()) => work(poller, &slots).map_err(|error| error.to_string()),
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
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn work(mut poller: Poller, slots: &[Arc<Slot>]) -> io::Result<()> {
    let mut events = Vec::new();
    loop {
        poller.wait(&mut events)?;
        for event in &events {
            if event.token == STOP {
                return Ok(());
            }
            let slot = usize::try_from(event.token).ok().and_then(|number| slots.get(number));
            if let Some(slot) = slot {
                slot.process(Instant::now());
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
