//! Machines come up on a host that has no processor to spare.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use support::{Instance, Options, old_qemu, skipped};

/// Keeps every processor busy, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on_every_processor() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = |stop: Arc<AtomicBool>| move || while !stop.load(Ordering::Relaxed) {};
        let processors = thread::available_parallelism().unwrap().get();
        let threads = (0..processors).map(|_| thread::spawn(busy(Arc::clone(&stop)))).collect();
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

#[test]
#[ignore = "takes minutes, and every processor"]
fn twenty_boots_with_every_processor_busy() {
    if skipped("boot") {
        return;
    }
    Instance::prepared("appliance").mvm(&["image", "build"]).ok();
    let _load = Load::on_every_processor();
    for time in 1..=20 {
        let instance = Instance::up("busy");
        assert_eq!(instance.status()["state"], "ready", "boot {time}");
    }
}

#[test]
fn a_host_with_an_old_qemu_gets_one_of_mvms_own() {
    if skipped("boot") {
        return;
    }
    let old = tempfile::tempdir().unwrap();
    old_qemu(old.path());
    let path = std::env::var_os("PATH").unwrap();
    let paths = std::iter::once(old.path().to_owned()).chain(std::env::split_paths(&path));
    let path = Some(std::env::join_paths(paths).unwrap());
    let instance = Instance::up_with("old", &Options { path, ..Options::default() });
    let qemu = instance.processes().with_argument("qemu-system");
    let own = Instance::data().join("mvm/tools");
    assert!(qemu.arguments.iter().any(|argument| argument.contains(own.to_str().unwrap())), "{qemu:#?}");
}
