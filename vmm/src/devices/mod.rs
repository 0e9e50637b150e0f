//! Devices. Each knows virtqueues and guest memory, and neither an engine nor how it is reached.

pub mod balloon;
pub mod blk;
pub(crate) mod chain;
pub mod console;
mod device;
mod line;
pub mod net;
pub mod rng;
pub mod serial;
#[cfg(test)]
pub(crate) mod testing;
pub mod vsock;

pub use chain::RingError;
pub(crate) use device::read_space;
pub use device::{Device, Signals};
pub use line::Line;
