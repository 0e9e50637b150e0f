//! Guests come up, and how they end is told.

use crate::guest::Guest;
use crate::support::{on_kvm, run};

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

/// Builds are guarded from one another against what their processor does ahead of time, as far as it can be had without a
/// newer microcode.
#[test]
fn the_appliances_kernel_guards_itself() {
    on_kvm(|| {
        let said = Guest::doing("describe").done();
        for flaw in ["meltdown", "retbleed", "spectre_v1", "spectre_v2"] {
            let found = said.iter().find_map(|line| line.strip_prefix(flaw)?.strip_prefix('='));
            let found = found.unwrap_or_else(|| panic!("{flaw} is not told: {said:#?}"));
            assert!(
                ["Mitigation: ", "Not affected"].iter().any(|good| found.starts_with(good)),
                "{flaw}: {found}"
            );
        }
    });
}

#[test]
fn a_compressed_kernel_of_somebody_elses_boots() {
    on_kvm(|| {
        let said = Guest::doing("describe").on_a_foreign_kernel().cpus(2).done();
        assert_eq!(said[0], "cpus=2 online=0-1");
    });
}

#[test]
fn a_start_is_followed_stage_by_stage() {
    on_kvm(|| {
        let outcome = run(Guest::doing("nothing").command().arg("--stages"));
        let stage = |line: &str| {
            let (stage, after) =
                line.strip_prefix("mvm vmm: ")?.strip_suffix(" us")?.split_once(" after ")?;
            Some((stage.to_owned(), after.parse::<u64>().ok()?))
        };
        let (stages, times): (Vec<_>, Vec<_>) = outcome.stderr.lines().filter_map(stage).unzip();
        let expected =
            ["main", "files", "hypervisor", "sandbox", "memory", "kernel", "board", "running", "driver"];
        assert_eq!(stages, expected, "{outcome}");
        assert!(times.is_sorted(), "{outcome}");
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

/// Ours through ACPI; Debian's through what it takes for a PC's firmware, and through its keyboard controller where it is told
/// to.
#[test]
fn a_reset_ends_the_machine() {
    on_kvm(|| {
        Guest::doing("reset").run().refused(4, "the guest reset itself");
        for way in ["", " reboot=k"] {
            let guest = Guest::doing(format!("reset{way}")).on_a_foreign_kernel();
            guest.run().refused(4, "the guest reset itself");
        }
    });
}
