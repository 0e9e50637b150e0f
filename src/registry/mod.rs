//! Registries, from the host: how images are named, which platforms they hold, and who may ask.

mod client;
pub mod credentials;
mod inspection;
mod platform;
mod reference;

pub use client::{Error, Manifest, Registry};
pub use inspection::{Entry, Inspection, UnreadableManifest};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{ImageRef, InvalidImageRef, loopback_port};
