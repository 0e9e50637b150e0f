//! The virtual machine: devices, engines, and the process that runs one machine.

mod console;
pub mod control;
pub mod devices;
pub mod engine;
mod platform;
pub mod process;
pub mod transport;
