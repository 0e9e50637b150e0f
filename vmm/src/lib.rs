//! The virtual machine: devices, engines, and the process that runs one machine.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
// Numbers of tests are small, and meant.
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod board;
mod bus;
pub mod console;
pub mod control;
pub mod devices;
pub mod engine;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hypervisor;
mod log_gate;
pub mod memory;
pub mod platform;
pub mod process;
#[cfg(test)]
#[path = "../../tests/support/skip.rs"]
mod skip;
mod thread;
pub mod transport;
mod vcpu;
mod worker;

pub use platform::{ring, sandbox};
