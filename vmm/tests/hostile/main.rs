//! A guest that does everything that a guest must not: the machine, in its sandbox, stays as small as it was, its devices
//! work for whoever uses them rightly afterwards, and its process goes on.
//!
//! Built with the feature `without-a-bounds-check` the same test has to fail: tests/mutants.rs sees to that.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::cast_possible_truncation)]

// It starts more kinds of children than this one.
#[allow(dead_code)]
#[path = "../sandbox/child.rs"]
mod child;
mod guest;
mod host;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use vmm::console::Console;
use vmm::devices::blk::Disk;
use vmm::devices::vsock::Vsock;
use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Watcher};

use self::guest::Hostile;
use self::host::Meter;

const OPERATIONS: u64 = 1_000_000;
/// What the process may grow by, outside the guest's memory.
const GROWTH_KIB: u64 = 2048;

/// As in vmm/tests/sandbox: a process enters its sandbox on its first and only thread.
#[used]
#[unsafe(link_section = ".init_array")]
static CHILD: extern "C" fn() = {
    extern "C" fn child() {
        if let Ok(image) = std::env::var(child::ORDER) {
            attack(Path::new(&image));
            child::end();
        }
    }
    child
};

#[test]
fn a_million_hostile_operations_cost_nothing_but_time() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let ended = child::start(image.to_str().unwrap());
    println!("{}", ended.said);
    ended.well();
}

/// The machine's process, as [`child::start`] starts it.
fn attack(image: &Path) {
    let mut kernel = tempfile::tempfile().unwrap();
    kernel.write_all(&guest::kernel()).unwrap();
    let (wire, network) = UnixStream::pair().unwrap();
    let (dialed, dials) = std::sync::mpsc::channel();
    let (vsock, handle) = Vsock::new(3, move |dial| _ = dialed.send(dial)).unwrap();
    let disks = vec![Disk::open(image, false).unwrap()];
    let meter = Meter::new();
    let confinement = child::enter();
    let (console, printed) = Console::to(std::io::sink(), confinement.clone()).unwrap();
    // Threads of the host's side, which are none of the machine's and have no filter.
    let network = rig::hostile::babble(network);
    let refusing = host::refuse(dials, handle);
    let config = Config {
        cpus: 1,
        memory: guest::MEMORY,
        kernel,
        initrd: None,
        command_line: String::new(),
        disks,
        network: Some(wire.into()),
        vsock: Some(vsock),
        balloon: 0,
        console: printed,
        confinement,
        watcher: Watcher::default(),
    };
    let hostile = Hostile::new(OPERATIONS, meter.start());
    let report = hostile.report();
    let outcome = native::run(&hostile, config, native::control().1).unwrap();
    console.finish();
    network.join().unwrap();
    refusing.join().unwrap();

    assert_eq!(outcome, Outcome::PoweredOff, "after the attack the guest uses its devices rightly");
    let report = report.lock().unwrap();
    eprintln!("{:#?}", report.counts);
    for (class, count) in &report.counts {
        assert!(*count >= 1000, "{class} was tried {count} times");
    }
    assert!(report.operations >= OPERATIONS, "{}", report.operations);
    let grown = report.peak_kib.saturating_sub(report.base_kib);
    eprintln!("{} operations; grown by {grown} KiB from {}", report.operations, report.base_kib);
    assert!(grown <= GROWTH_KIB, "the process grew by {grown} KiB");
}
