//! The vsock device in the machine's own process, with the guest and the checks of tests/vsock.rs.

use crate::support::{Parts, VsockBench, on_kvm, run};

#[test]
fn streams_arrive_whole_and_half_closed() {
    on_kvm(|| stream(64));
}

#[test]
#[ignore = "long: minutes, where the machine's processor is emulated"]
fn a_gibibyte_each_way_arrives_whole() {
    on_kvm(|| stream(1024));
}

/// So many MiB each way, and both ways at once, compared; then many connections, dialed and refused ones.
#[track_caller]
fn stream(mib: u64) {
    let mut command = VsockBench::here().on_kvm(&Parts::here().kernel);
    let outcome = run(command.env("MVM_BENCH_MIB", mib.to_string()));
    assert_eq!(outcome.status, 0, "{outcome}");
    for part in ["vsock-to-guest", "vsock-to-host", "vsock-both-ways", "vsock-100-parallel"] {
        assert!(outcome.stdout.contains(part), "{part} was not run: {outcome}");
    }
    println!("{}", outcome.stdout);
}
