//! Registries, from the host: how images are named, which platforms they hold, who may ask, and how images come and go.

mod client;
pub mod credentials;
mod details;
mod grammar;
mod inspection;
mod join;
mod mirror;
mod platform;
mod reference;
mod transfer;

pub use client::{Error, Manifest, Registry};
pub use details::{Details, DetailsError, Wanted, details};
pub use inspection::{Entry, Inspection, UnreadableManifest};
pub use join::{
    Content, IndexAnnotation, InvalidSource, Join, JoinError, Joined, Options as JoinOptions, Placed, Source,
};
pub use mirror::{InvalidMirror, Mirror};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{ImageRef, InvalidImageRef, loopback_port};
pub use transfer::{Pull, PullError, Push, PushError};
