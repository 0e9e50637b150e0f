//! What a builder keeps: its cache (`usage`), and what it remembers of builds (`history`, `provenance`).

mod filter;
mod history;
mod provenance;
mod usage;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use chrono::{DateTime, Utc};
use thiserror::Error;
use tonic::Status;
use tonic::transport::Channel;

pub use filter::Filter;
pub use history::{Past, State};
pub use usage::{Limits, Usage};

use super::endpoint::{Endpoint, EndpointError};

/// A builder that is asked about what it keeps.
#[derive(Debug, Clone)]
pub struct Keeper {
    control: ControlClient<Channel>,
    channel: Channel,
}

/// Why it did not answer.
#[derive(Debug, Error)]
pub enum KeepError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("the builder does not answer that: {0}")]
    Refused(String),
    #[error("the builder remembers no build {0:?}; `mvm history ls` shows those that it does")]
    NoBuild(String),
    #[error("{0:?} is the beginning of several builds' names; write more of it")]
    Ambiguous(String),
}

impl Keeper {
    pub async fn at(endpoint: &Endpoint) -> Result<Self, KeepError> {
        let channel = endpoint.connect().await?;
        Ok(Self { control: super::solve::client(channel.clone()), channel })
    }
}

fn refused(status: &Status) -> KeepError {
    KeepError::Refused(super::error::root(status))
}

fn time(time: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let time = time?;
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}
