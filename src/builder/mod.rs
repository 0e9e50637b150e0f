//! A client of BuildKit's control API: builds a Dockerfile with a builder here or elsewhere.
//!
//! At the same time run: the session (`session`, carried by `tunnel` on the connection of all, or by `hijack` on one of its own),
//! in which the daemon asks us for files and credentials; the solve (`solve`), which is the build; and its status (`progress`).
//! `request` is what the user asked for, `attach` what of this host goes with it, `export` what comes back; `keep` is what a builder
//! remembers, `failure` what is said about a build that failed. `together` has several builders make one image.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod attach;
mod context;
mod endpoint;
mod error;
mod export;
mod failure;
mod gateway;
mod hijack;
mod keep;
mod keyring;
mod node;
mod platform;
pub mod progress;
mod request;
mod session;
mod solve;
pub mod timeline;
mod together;
mod tunnel;
mod worker;

pub use attach::{AttachError, FinishError};
pub use endpoint::{Endpoint, EndpointError, Tls};
pub use export::{Destination, ExportError};
pub use failure::Failure;
pub use keep::{Filter, KeepError, Keeper, Limits, Past, PastFilter, State as PastState, Usage};
pub use keyring::KeyringError;
pub use node::{NodeError, node_id};
pub use platform::{CannotRun, Known, Platforms, Stages};
pub use request::{
    Annotation, Answer, Attestation, Attested, Build, ByteSize, Cache, Call, DockerfileAt, Entitlement, Host,
    LONGEST_DOCKERFILE, NamedContext, Network, NoCache, Output, Policy, PolicyError, Secret, SecretError,
    ShareError, Source, SourceError, Ssh, Steps, Store, Ulimit, truth,
};
pub use solve::{BuildError, Means, Observer, Outcome, build};
pub use together::{Share, TogetherError, build as build_together};
pub use worker::{Worker, WorkerError};
