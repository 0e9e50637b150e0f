//! What the whole-product tests share: instances, registries, clients and images of their own.
//!
//! Nothing is simulated: machines boot, Debian's docker-registry serves, Debian's docker client asks. A tool that is
//! missing is a failure with a remedy; only what MVM_SKIP names is skipped.
// Each test program compiles all of this, and uses its own part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod appliance;
mod artifact;
mod browser;
mod command;
mod eventually;
mod file_server;
mod front;
mod images;
mod in_guest;
mod instance;
mod job_cache;
mod keys;
mod kvm_instance;
mod layout;
mod page;
mod place;
mod ports;
mod processes;
mod proxy;
mod registry;
mod rig;
mod skip;
mod sshd;
mod terminal;
mod tls;
mod tokens;
mod tools;
mod troubled;
mod vsock_bench;
mod workbench;

pub use appliance::{Appliance, unpacked};
pub use artifact::{STATIC, built};
pub use browser::browse;
pub use command::{Outcome, Running, behind, run, run_with_input, start};
pub use eventually::eventually;
pub use file_server::FileServer;
pub use front::{Act, Request};
pub use images::{Base, PLATFORMS, context, steps};
pub use in_guest::{until_it_is_gone, until_it_runs, until_it_runs_in};
pub use instance::{Instance, Options};
pub use job_cache::JobCache;
pub use keys::Keys;
pub use kvm_instance::KvmInstance;
pub use layout::{layout, layout_of, layout_with, put};
pub use page::page;
pub use place::{Parts, is_inside_rig, on_kvm};
pub use ports::free_port;
pub use processes::{Process, Processes, anonymous_beside};
pub use proxy::Proxy;
pub use registry::Registry;
pub use rig::Rig;
pub use skip::{left_out, skipped, there_is_kvm};
pub use sshd::Sshd;
pub use terminal::{AtTerminal, terminal};
pub use tls::TlsFront;
pub use tokens::WithTokens;
pub use tools::{BUILDX, buildx, docker, docker_configured_by, old_qemu, rig_files, tool};
pub use troubled::Troubled;
pub use vsock_bench::VsockBench;
pub use workbench::Workbench;

/// The program under test.
pub const MVM: &str = env!("CARGO_BIN_EXE_mvm");
/// The clone's top directory.
pub const TOP: &str = env!("CARGO_MANIFEST_DIR");
