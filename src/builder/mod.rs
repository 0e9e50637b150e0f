//! A client of BuildKit's control API: builds a Dockerfile with the builder at a unix socket.
//!
//! A build is one connection. On it run, at the same time: the session (`session`, carried by `tunnel`), in which the
//! daemon asks us for files and credentials; the solve (`solve`), which is the build; and its status (`progress`).
//! `request` is what the user asked for, `failure` what is said about a build that failed.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod annotation;
mod attestation;
mod context;
mod endpoint;
mod error;
mod failure;
mod node;
mod platform;
pub mod progress;
mod request;
mod session;
mod solve;
mod steps;
mod tunnel;

pub use annotation::Annotation;
pub use attestation::{Attestation, Attested};
pub use endpoint::{Endpoint, EndpointError};
pub use failure::Failure;
pub use node::{NodeError, node_id};
pub use platform::{CannotRun, Known, check};
pub use request::{Build, NoCache, Source, SourceError, Store};
pub use solve::{BuildError, Means, Observer, Outcome, build};
pub use steps::{Host, Network, ShmSize, Steps, Ulimit};
