//! Our own VMM on KVM, with real guests: `mvm vmm` from plain files. Where the host's KVM cannot run a kernel, each
//! test runs inside the rig, a machine that has one (tests/rig).
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod appliance;
mod boot;
mod control;
mod devices;
mod disk;
mod endings;
mod guest;
mod hostile;
mod memory;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod vsock;
