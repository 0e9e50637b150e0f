//! The device against a driver that plays the guest: real rings in real guest memory, real sockets.
#![allow(clippy::cast_possible_truncation)] // Slots and lengths here are small.

mod exchange;
mod guest;
mod hostile;
mod rules;
