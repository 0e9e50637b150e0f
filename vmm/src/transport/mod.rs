//! How a driver reaches a device.

pub mod vhost_user;
