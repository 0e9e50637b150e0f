//! A guest that does everything that a guest must not: the machine stays as small as it was, its devices work for whoever
//! uses them rightly afterwards, and its process goes on.
//!
//! Built with the feature `without-a-bounds-check` the same test has to fail: `make test-full` sees to that.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::cast_possible_truncation)]

mod attack;
mod guest;
mod host;
mod random;

use std::io::Write;
use std::os::unix::net::UnixStream;

use vmm::console::Console;
use vmm::devices::blk::Disk;
use vmm::devices::vsock::Vsock;
use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Watcher};
use vmm::sandbox::Confinement;

use self::guest::Hostile;

const OPERATIONS: u64 = 1_000_000;
/// What the process may grow by, outside the guest's memory.
const GROWTH_KIB: u64 = 2048;

#[test]
fn a_million_hostile_operations_cost_nothing_but_time() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let mut kernel = tempfile::tempfile().unwrap();
    kernel.write_all(&guest::kernel()).unwrap();
    let (console, printed) = Console::to(std::io::sink(), Confinement::default()).unwrap();
    let (wire, network) = UnixStream::pair().unwrap();
    let network = host::babble(network);
    // Nobody answers what the guest dials.
    let (vsock, _handle) = Vsock::new(3, |_| {}).unwrap();
    let config = Config {
        cpus: 1,
        memory: guest::MEMORY,
        kernel,
        initrd: None,
        command_line: String::new(),
        disks: vec![Disk::open(&image, false).unwrap()],
        network: Some(wire.into()),
        vsock: Some(vsock),
        balloon: 0,
        console: printed,
        confinement: Confinement::default(),
        watcher: Watcher::default(),
    };
    let hostile = Hostile::new(OPERATIONS);
    let report = hostile.report();
    let outcome = native::run(&hostile, config, native::control().1).unwrap();
    console.finish();
    network.join().unwrap();

    assert_eq!(outcome, Outcome::PoweredOff, "after the attack the guest uses its devices rightly");
    let report = report.lock().unwrap();
    println!("{:#?}", report.counts);
    for (class, count) in &report.counts {
        assert!(*count >= 1000, "{class} was tried {count} times");
    }
    assert!(report.operations >= OPERATIONS, "{}", report.operations);
    let grown = report.peak_kib.saturating_sub(report.base_kib);
    println!("{} operations; grown by {grown} KiB from {}", report.operations, report.base_kib);
    assert!(grown <= GROWTH_KIB, "the process grew by {grown} KiB");
}
