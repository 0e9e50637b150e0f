//! The vsock device in the machine's own process, with the guest and the checks of tests/vsock.rs.

use crate::support::{Parts, VsockBench, on_kvm, run};

/// Each way, and both ways at once, compared; then many connections, dialed and refused ones.
#[test]
fn a_gibibyte_each_way_arrives_whole() {
    on_kvm(|| {
        let mut command = VsockBench::here().on_kvm(&Parts::here().kernel);
        let outcome = run(command.env("MVM_BENCH_MIB", "1024"));
        assert_eq!(outcome.status, 0, "{outcome}");
        for part in ["vsock-to-guest", "vsock-to-host", "vsock-both-ways", "vsock-100-parallel"] {
            assert!(outcome.stdout.contains(part), "{part} was not run: {outcome}");
        }
        println!("{}", outcome.stdout);
    });
}
