//! Devices. Each knows virtqueues and guest memory, and neither an engine nor how it is reached.

pub(crate) mod chain;
pub mod vsock;

pub use chain::RingError;
