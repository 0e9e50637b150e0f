//! What a builder keeps: its cache (`usage`), and what it remembers of builds (`history`, `provenance`, `replay`).

mod filter;
mod history;
mod past_filter;
mod provenance;
mod replay;
mod usage;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{BuildHistoryEvent, BuildHistoryRequest};
use chrono::{DateTime, Utc};
use prost::Message;
use thiserror::Error;
use tonic::Status;
use tonic::transport::Channel;

pub use filter::Filter;
pub use history::{Past, State};
pub use past_filter::PastFilter;
pub use usage::{Limits, Usage};

use super::endpoint::{Endpoint, EndpointError};

/// How much a builder may say of what it remembers, in bytes; a build is a few kilobytes of it. Here it takes up to forty times of
/// that, where it consists of messages that say nothing.
const MEMORIES: usize = 16 << 20;

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
    #[error("the builder says more of what it remembers than {} MiB; is it one?", MEMORIES >> 20)]
    Endless,
    #[error("the builder remembers no build {0:?}; `mvm history ls` shows those that it does")]
    NoBuild(String),
    #[error("{0:?} is the beginning of several builds' names; write more of it")]
    Ambiguous(String),
}

impl Keeper {
    pub async fn at(endpoint: &Endpoint) -> Result<Self, KeepError> {
        let channel = endpoint.answering().await?;
        Ok(Self { control: super::solve::client(channel.clone()), channel })
    }

    /// Everything that it remembers and was asked for.
    async fn memories(&mut self, request: BuildHistoryRequest) -> Result<Vec<BuildHistoryEvent>, KeepError> {
        let events = self.control.listen_build_history(request).await;
        let mut events = events.map_err(|status| refused(&status))?.into_inner();
        let (mut all, mut room) = (Vec::new(), MEMORIES);
        while let Some(event) = events.message().await.map_err(|status| refused(&status))? {
            // With what one takes that says nothing.
            let bytes = event.encoded_len().saturating_add(size_of::<BuildHistoryEvent>());
            room = room.checked_sub(bytes).ok_or(KeepError::Endless)?;
            all.push(event);
        }
        Ok(all)
    }
}

fn refused(status: &Status) -> KeepError {
    KeepError::Refused(super::error::root(status))
}

fn time(time: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let time = time?;
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}
