//! Tests that are left out: because MVM_SKIP names them, or because this host lacks what they are about. Each time is a line
//! on stderr, which `make test` counts.
// Each test program compiles all of this, and uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::io::Write;
use std::panic::Location;
use std::path::Path;

/// Whether MVM_SKIP, a list with commas, names this test.
pub fn skipped(test: &str) -> bool {
    let skip = std::env::var("MVM_SKIP").unwrap_or_default();
    let named = skip.split(',').any(|name| name.trim() == test);
    if named {
        say(&format!("skipped by MVM_SKIP: {test}"));
    }
    named
}

/// Says that the test that calls this has nothing to test: mvm works on this host, only without such a thing.
#[track_caller]
pub fn left_out(thing: &str) {
    say(&format!("left out, as this host has no {thing}: {}", Location::caller()));
}

/// Whether there is one for the test that asks, which is to return where there is none.
#[track_caller]
pub fn there_is_kvm() -> bool {
    let exists = Path::new("/dev/kvm").exists();
    if !exists {
        left_out("/dev/kvm");
    }
    exists && !skipped("kvm")
}

/// In one piece, as other tests may say something at the same time.
fn say(line: &str) {
    // Not eprintln!: the test harness would keep that to itself.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
