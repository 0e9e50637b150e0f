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

mod console;
pub mod control;
pub mod devices;
pub mod engine;
mod log_gate;
mod platform;
pub mod process;
pub mod transport;
