//! The host's side of vsock, and how large this process is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use vmm::devices::vsock::{Dial, Handle};

/// Gives the guest nothing of what it dials, until its device is gone.
pub(crate) fn refuse(dials: Receiver<Dial>, handle: Handle) -> JoinHandle<()> {
    thread::spawn(move || dials.iter().for_each(|dial| handle.refused(dial.id)))
}

/// Knows how much anonymous memory this process has. Opened before the sandbox shuts files away.
pub(crate) struct Meter(File);

impl Meter {
    pub(crate) fn new() -> Self {
        Self(File::open("/proc/self/status").unwrap())
    }

    /// From then on a thread of its own reads it: those of the machine may not.
    pub(crate) fn start(self) -> Sender<Sender<u64>> {
        let (asking, asked) = channel::<Sender<u64>>();
        thread::spawn(move || asked.iter().for_each(|answer| _ = answer.send(self.kib())));
        asking
    }

    fn kib(&self) -> u64 {
        let mut status = [0; 4096];
        let count = self.0.read_at(&mut status, 0).unwrap();
        let status = String::from_utf8_lossy(&status[..count]);
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
