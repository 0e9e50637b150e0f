//! Memory goes back to the host, and comes again when the guest needs it.

use std::fs;
use std::time::Instant;

use crate::guest::Guest;
use crate::support::{eventually, on_kvm};

const USED_MIB: u64 = 128;

/// By free-page reporting, without being asked.
#[test]
fn memory_that_a_guest_no_longer_uses_goes_back_to_the_host() {
    on_kvm(|| {
        let directory = tempfile::tempdir().unwrap();
        let guest =
            Guest::doing(format!("free rig.mib={USED_MIB}")).console(&directory.path().join("console"));
        let running = guest.start_and_hear("full");
        let full = resident_mib(running.pid());
        assert!(full >= USED_MIB, "{full} MiB");
        let started = Instant::now();
        // Most of it: what the kernel keeps for itself, and pages that share a large block with others, stay.
        eventually("its memory", 300, || {
            let now = resident_mib(running.pid());
            if now + USED_MIB * 3 / 4 <= full { Ok(()) } else { Err(format!("{full} MiB, now {now}")) }
        });
        let now = resident_mib(running.pid());
        println!("{} MiB of {full} came back after {:.1} s", full - now, started.elapsed().as_secs_f64());
    });
}

#[test]
fn a_guest_takes_memory_back_from_its_balloon_before_it_runs_out() {
    on_kvm(|| {
        let said = Guest::doing("deflate rig.left=110 rig.mib=160").balloon("128M").done();
        assert_eq!(said[1], "used=160", "{said:?}");
    });
}

/// What the process holds of memory of its own, which is the guest's, but for little.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
