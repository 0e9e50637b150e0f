//! `make bench`: what mvm costs, against a peer in the same run where there is one.
//!
//! Prints one line a figure, and writes them all to `target/bench.json`. Arguments choose figures by (part of) their
//! name. Nothing here passes or fails by a figure. `--rig COMMAND...` runs a command where [`native`] measures.

#[path = "../../tests/support/mod.rs"]
mod support;

mod boot;
mod builds;
mod host;
mod images;
mod instructions;
mod measured;
mod native;
mod overhead;
mod report;
mod sizes;
mod transfers;
mod vsock;

use report::{Figure, Report};

/// Figures that are measured together, by how their names begin.
type Group = (&'static [&'static str], fn() -> Vec<Figure>);

const GROUPS: [Group; 16] = [
    (&["vmlinux-size", "root-image-size"], sizes::measure),
    (&["init-instructions"], instructions::measure),
    (&["up-to-", "guest-idle-memory"], boot::measure),
    (&["noop-build", "three-platform-build"], builds::measure),
    (&["noop-build-50k", "upload-small", "upload-large", "local-output"], transfers::measure),
    (&["host-noop-build", "host-upload-small", "host-upload-large", "host-local-output"], host::measure),
    (&["cli-overhead"], overhead::measure),
    (&["image-build-", "image-unpack"], images::measure),
    (&["vsock-rtt", "vsock-to-guest", "vsock-to-host"], vsock::measure),
    (&["vmm-exec-to-init", "kvm-probe", "vmm-memory", "idle-cpu"], native::start),
    (&["vmm-to-"], native::stages),
    (&["up-to-"], native::up),
    (&["blk-read", "blk-write"], native::disk),
    (&["net-down", "net-up"], native::network),
    (&["memory-returned"], native::memory),
    (&["vsock-rtt", "vsock-to-guest", "vsock-to-host"], native::vsock),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == native::WORD => return native::inside(rest),
        Some((word, rest)) if word == "--rig" => return native::run_by_hand(rest),
        _ => {}
    }
    // Cargo itself passes `--bench`.
    let wanted: Vec<String> = arguments.into_iter().filter(|word| !word.starts_with("--")).collect();
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
