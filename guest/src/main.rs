//! PID 1 and agent of the appliance: one static binary.
//!
//! As PID 1 it makes the guest usable ([`init`]), answers the host from then on ([`agent`]), runs the onboot
//! containers of the root image in order ([`boot`]) and keeps its services running ([`services`]).
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod agent;
mod applets;
mod boot;
mod bundle;
mod crashed;
mod events;
mod http;
mod init;
mod kernel_args;
mod logs;
mod net;
mod process;
mod runtime;
mod selftest;
mod services;
mod shutdown;
mod step;
mod system;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("guest: this is the init of an mvm appliance and runs only as its first process");
        return ExitCode::from(2);
    }
    runtime::run()
}
