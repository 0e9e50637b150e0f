//! How a driver reaches a device.

pub(crate) mod mmio;
pub mod vhost_user;
