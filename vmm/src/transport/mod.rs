//! How a driver reaches a device.

pub(crate) mod mmio;
#[cfg(target_os = "linux")]
pub mod vhost_user;
