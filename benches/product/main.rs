//! `make bench`: what mvm costs, against a peer in the same run where there is one.
//!
//! Prints one line a figure, and writes them all to `target/bench.json`. Arguments choose figures by (part of) their
//! name. Nothing here passes or fails by a figure.

#[path = "../../tests/support/mod.rs"]
mod support;

mod boot;
mod builds;
mod instructions;
mod report;
mod sizes;
mod vsock;

use report::{Figure, Report};

/// Figures that are measured together, by how their names begin.
type Group = (&'static [&'static str], fn() -> Vec<Figure>);

const GROUPS: [Group; 5] = [
    (&["vmlinux-size", "root-image-size"], sizes::measure),
    (&["init-instructions"], instructions::measure),
    (&["up-to-", "guest-idle-memory"], boot::measure),
    (&["noop-build", "three-platform-build"], builds::measure),
    (&["vsock-rtt", "vsock-to-guest", "vsock-to-host"], vsock::measure),
];

fn main() {
    // Cargo itself passes `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    let mut report = Report::default();
    for (names, measure) in GROUPS {
        let is_begun = |name: &str| wanted.iter().any(|word| word.starts_with(name));
        if names.iter().any(|name| is_wanted(name) || is_begun(name)) {
            report.add(measure().into_iter().filter(|figure| is_wanted(&figure.name)));
        }
    }
    report.write();
}
