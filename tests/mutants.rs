//! Tests of tests: with a check taken out of the product, the test that is there for it fails.

mod support;

use std::process::Command;

use support::{TOP, run};

#[test]
fn a_bound_that_is_taken_out_of_a_device_is_missed_by_the_hostile_guest() {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(TOP).args(["test", "--locked", "-p", "vmm", "--test", "hostile"]);
    let outcome = run(command.args(["--features", "without-a-bounds-check"]));
    assert_ne!(outcome.status, 0, "nobody noticed: {outcome}");
    assert!(outcome.stdout.contains("the process grew by"), "it failed for another reason: {outcome}");
}
