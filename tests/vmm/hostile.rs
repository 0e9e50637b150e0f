//! A guest that does everything that a guest must not: on KVM what a scripted one does in vmm/tests/hostile, but for what
//! would make a device write into the guest's own kernel.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use ::rig::hostile::{LINE, SECTOR, babble};
use vmm::board::x86_64::layout::virtio;

use crate::guest::{Guest, said};
use crate::support::{anonymous_beside, eventually, on_kvm};

/// All but vsock, which a machine from plain files has not.
const DEVICES: u64 = 5;
/// What the process may grow by, outside the guest's memory.
const GROWTH_KIB: u64 = 2048;
const MIB: u64 = 1 << 20;
const GUEST_KIB: u64 = 256 * 1024;

#[test]
fn a_hostile_guest_on_kvm_costs_nothing_but_time() {
    on_kvm(|| attack(100_000));
}

#[test]
#[ignore = "takes four minutes"]
fn a_million_operations_of_a_hostile_guest_on_kvm_cost_nothing_but_time() {
    on_kvm(|| attack(1_000_000));
}

fn attack(operations: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (console, disk, socket) = (path("console"), path("disk"), path("network"));
    fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let network = std::thread::spawn(move || babble(listener.accept().unwrap().0).join().unwrap());
    // More is kept from the kernel than the driver has: what is too long for it ends in nobody's memory.
    let (own, own_end, kept) = (128 * MIB, 240 * MIB, 244 * MIB);
    let action = format!(
        "hostile rig.operations={operations} rig.devices={} rig.count={DEVICES} rig.own={own} rig.own-end={own_end} \
         rig.end={} memmap={}${own}",
        virtio(0).unwrap().address,
        256 * MIB,
        kept - own,
    );
    let guest = Guest::doing(action).on_a_foreign_kernel().network(&socket).console(&console);
    let mut running = guest.disk(disk.to_str().unwrap()).start_and_hear("attacks");
    let pid = running.pid();
    let base = anonymous_beside(pid, GUEST_KIB);
    let mut peak = base;
    eventually("the end of the attack", 800, || {
        peak = peak.max(anonymous_beside(pid, GUEST_KIB));
        if running.is_running() { Err(format!("it said: {:?}", told(&console))) } else { Ok(()) }
    });
    let outcome = running.outcome();
    let said = told(&console);
    println!("{said:#?}\nits process grew by {} KiB from {base}", peak - base);
    assert_eq!((outcome.status, said.last().map(String::as_str)), (0, Some("done")), "{said:#?} {outcome}");
    assert!(peak - base <= GROWTH_KIB, "the process grew by {} KiB", peak - base);
    assert!(base > 0, "nothing was measured");
    let counts = said.iter().filter_map(|line| line.split_once(' ')?.0.parse::<u64>().ok());
    let counts = counts.collect::<Vec<_>>();
    assert_eq!(counts.len(), 9, "all classes that keep to the driver's own memory: {said:#?}");
    assert!(counts.iter().all(|count| *count >= operations / 1000), "{said:#?}");

    // What it did rightly in the end.
    network.join().unwrap();
    assert_eq!(fs::read(&disk).unwrap()[..SECTOR.len()], SECTOR);
    assert!(String::from_utf8_lossy(&fs::read(&console).unwrap()).contains(LINE));
    // Complaints about a guest are few, however much it gives cause.
    assert!(outcome.stderr.lines().count() < 200, "{outcome}");
}

fn told(console: &Path) -> Vec<String> {
    said(&String::from_utf8_lossy(&fs::read(console).unwrap_or_default()))
}
