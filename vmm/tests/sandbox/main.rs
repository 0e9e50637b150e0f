//! The sandbox, with real processes: whatever enters one stays in it, so each test starts this program anew as a child.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// Numbers of tests are small, and meant.
#![allow(clippy::cast_possible_truncation)]

mod calls;
mod child;
mod guest;
mod limits;
mod machines;
mod rules;

/// Not a test by itself: what [`child::start`] starts.
#[test]
fn child() {
    let Ok(order) = std::env::var(child::ORDER) else { return };
    let mut words = order.split(' ');
    let what = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    match what {
        "allowed" => rules::allowed(&rest),
        "ends" => rules::ends(&rest),
        "refused" => rules::refused(&rest),
        "forbidden" => rules::forbidden(&rest),
        "held-back" => rules::held_back(),
        "shut" => limits::shut(&rest),
        "limited" => limits::limited(),
        "console" => machines::console(&rest),
        "fake" => machines::fake(&rest),
        "panic" => machines::panic(&rest),
        "kvm" => machines::kvm(&rest),
        "kvm-loop" => machines::kvm_loop(&rest),
        other => panic!("no child does {other}"),
    }
    child::end();
}
