//! Fuzz targets: what guests, peers and files may say to mvm, and what has to hold whatever they say.
//!
//! A target is a module with `run(input)`, named as its corpus is: `corpus/TARGET/`. It reads its input as a script, drives
//! the real thing with it, and holds what comes out against a small model of what the specification says. `cargo test`
//! runs each over its corpus and over a fixed number of mutants ([`check`]); `make fuzz` looks for new inputs, guided by
//! where they lead (`guided.rs`). docs/testing.md says how to work with them.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// Numbers of tests are small, and meant.
#![allow(clippy::cast_possible_truncation)]

pub mod acpi;
pub mod balloon;
pub mod blk;
pub mod check;
pub mod config;
pub mod control;
pub mod handshake;
pub mod image;
mod input;
pub mod kernel;
pub mod label;
pub mod layer;
pub mod lock;
mod memory;
pub mod mmio;
mod mutate;
pub mod net;
mod ring;
mod root;
mod scratch;
pub mod vhost_user;
pub mod virtqueue;
pub mod vsock;

/// Fails by a panic.
pub type Target = fn(&[u8]);

pub const TARGETS: [(&str, Target); 16] = [
    ("acpi", acpi::run),
    ("balloon", balloon::run),
    ("blk", blk::run),
    ("config", config::run),
    ("control", control::run),
    ("handshake", handshake::run),
    ("image", image::run),
    ("kernel", kernel::run),
    ("label", label::run),
    ("layer", layer::run),
    ("lock", lock::run),
    ("mmio", mmio::run),
    ("net", net::run),
    ("vhost_user", vhost_user::run),
    ("virtqueue", virtqueue::run),
    ("vsock", vsock::run),
];

/// The target with this name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|(other, _)| *other == name);
    found.unwrap_or_else(|| panic!("no fuzz target is called {name:?}")).1
}
