//! Guests come up, and how they end is told.

use crate::guest::Guest;
use crate::support::on_kvm;

#[test]
fn a_guest_has_the_processors_that_it_was_given() {
    on_kvm(|| {
        for cpus in [1, 2, 4] {
            let said = Guest::doing("describe").cpus(cpus).done();
            let online = if cpus == 1 { "0".to_owned() } else { format!("0-{}", cpus - 1) };
            assert_eq!(said[0], format!("cpus={cpus} online={online}"));
            assert!(said[1].contains("kvm-clock"), "{said:?}");
        }
    });
}

#[test]
fn a_panic_ends_the_machine() {
    on_kvm(|| {
        let outcome = Guest::doing("panic").run();
        outcome.refused(4, "the guest reset itself");
        assert!(outcome.stdout.contains("Kernel panic - not syncing: Attempted to kill init!"), "{outcome}");
    });
}

#[test]
fn a_reset_ends_the_machine() {
    on_kvm(|| Guest::doing("reset").run().refused(4, "the guest reset itself"));
}
