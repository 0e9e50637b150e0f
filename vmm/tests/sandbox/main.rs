//! The sandbox, with real processes: whatever enters one stays in it, so each test starts this program anew as a child.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// Numbers of tests are small, and meant.
#![allow(clippy::cast_possible_truncation)]

mod calls;
mod child;
// It has a guest for the tests of the whole product as well.
#[allow(dead_code)]
mod guest;
mod lacking;
mod limits;
mod machines;
mod rules;
#[path = "../../../tests/support/skip.rs"]
mod skip;

/// What [`child::start`] starts. It comes before `main`, and so before the harness has a thread: a process enters its
/// sandbox on its first and only one.
#[used]
#[unsafe(link_section = ".init_array")]
static CHILD: extern "C" fn() = {
    extern "C" fn child() {
        if let Ok(order) = std::env::var(child::ORDER) {
            obey(&order);
            child::end();
        }
    }
    child
};

fn obey(order: &str) {
    let mut words = order.split(' ');
    let what = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    match what {
        "allowed" => rules::allowed(&rest),
        "ends" => rules::ends(&rest),
        "refused" => rules::refused(&rest),
        "forbidden" => rules::forbidden(&rest),
        "ordinary" => rules::ordinary(&rest),
        "held-back" => rules::held_back(),
        "locked" => rules::locked(),
        "logs" => rules::logs(&rest),
        "shut" => limits::shut(&rest),
        "lacking-landlock" => lacking::landlock(),
        "lacking-off" => lacking::off(),
        "lacking-both" => lacking::both(),
        "lacking-rings" => lacking::rings(),
        "threads" => limits::threads(),
        "limited" => limits::limited(),
        "console" => machines::console(&rest),
        "fake" => machines::fake(&rest),
        "fake-one-by-one" => machines::one_by_one(&rest),
        "resets" => machines::resets(&rest),
        "panic" => machines::panic(&rest),
        "kvm" => machines::kvm(&rest),
        "kvm-loop" => machines::kvm_loop(&rest),
        other => panic!("no child does {other}"),
    }
}
