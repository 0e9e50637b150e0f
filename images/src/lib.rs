//! Turns a `linuxkit.yml` into a bootable appliance: a kernel, a root image and a command line.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod apt;
mod architecture;
mod build;
mod component;
mod deb;
mod embedded;
mod error;
mod exclusive;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod held;
pub mod image;
mod kernel;
mod layer;
pub mod layout;
mod lock;
mod locking;
mod origin;
pub mod output;
mod packages;
mod piece;
pub mod progress;
pub mod provenance;
pub mod prune;
pub mod rebuild;
mod recipe;
mod request;
mod root;
mod rootfs;
mod sbom;
mod scratch;
pub mod signature;
mod source;
pub mod spec;
pub mod store;
pub mod tools;
pub mod verify;
mod yaml;

pub use build::{Changes, build, lock, trace, write};
pub use error::Error;
pub use held::Held;
pub use layer::LayerError;
pub use layout::{CONTAINERD_NAME, Layout, LayoutError};
pub use origin::{Needed, needed};
pub use output::{Format, Output, Place};
pub use request::{Directories, Guest, Pins, Request};
pub use source::{Part, Source, SourceError};
pub use store::{Appliance, Store, StoreError};
pub use yaml::{Problem, Problems};

/// The name of the appliance that `mvm up` boots.
pub const DEFAULT_REFERENCE: &str = "mvm/appliance:latest";
