//! What a builder says of itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{InfoRequest, ListWorkersRequest, ListWorkersResponse};
use tonic::transport::Channel;

use super::endpoint::{Endpoint, EndpointError};
use super::platform::Known;
use super::solve::client;
use crate::printable::printable;
use crate::registry::Platform;

/// What is said of an emulator where the builder does not tell which it has.
const SOME_EMULATOR: &str = "the builder's emulator";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// dockerd's name for the address of its machine (moby `builder/builder-next/worker/label`).
const GATEWAY: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";
/// No builder lists more; another host may not have us count for ever.
const MOST: usize = 1000;

/// A builder's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Of its BuildKit, as in "v0.23.2"; empty where it does not say.
    pub version: String,
    /// The first is its processor's own.
    pub platforms: Vec<Known>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("it does not say what it can build: {0}")]
    Refused(String),
    #[error("the builder does not say what --add-host NAME:host-gateway is there; give an address")]
    NoGateway,
}

impl Worker {
    pub async fn at(endpoint: &Endpoint) -> Result<Self, WorkerError> {
        let mut control = client(endpoint.connect().await?);
        let workers = workers(&mut control).await?;
        // BuildKit before v0.11 does not know the question.
        let info = control.info(InfoRequest {}).await.ok().map(tonic::Response::into_inner);
        let version = info.and_then(|info| info.buildkit_version);
        let said = workers.record.into_iter().flat_map(|record| record.platforms).take(MOST);
        // One that is none is not worth a word.
        let platforms = said.filter_map(|one| {
            let parts = [&one.os, &one.architecture, &one.variant].map(String::as_str);
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/").parse().ok()
        });
        Ok(Self {
            version: version.map(|version| printable(&version.version)).unwrap_or_default(),
            platforms: known(platforms.collect()),
        })
    }
}

/// The address that a builder's machine has for the steps, as dockerd says it.
pub(super) async fn gateway(endpoint: &Endpoint) -> Result<IpAddr, WorkerError> {
    let workers = workers(&mut client(endpoint.connect().await?)).await?;
    workers.record.iter().find_map(|record| labelled(&record.labels)).ok_or(WorkerError::NoGateway)
}

async fn workers(control: &mut ControlClient<Channel>) -> Result<ListWorkersResponse, WorkerError> {
    let asked = tokio::time::timeout(PATIENCE, control.list_workers(ListWorkersRequest::default())).await;
    let asked = asked.map_err(|_| WorkerError::Refused("it says nothing".to_owned()))?;
    Ok(asked.map_err(|status| WorkerError::Refused(super::error::root(&status)))?.into_inner())
}

/// The first of what may be one address of each family.
fn labelled(labels: &HashMap<String, String>) -> Option<IpAddr> {
    labels.get(GATEWAY)?.split(',').find_map(|address| address.trim().parse().ok())
}

/// What runs natively: the first, which a worker lists for its own, and what the same processor runs.
fn known(platforms: Vec<Platform>) -> Vec<Known> {
    let own = platforms.first().map(|own| own.architecture.clone()).unwrap_or_default();
    let is_native = |platform: &Platform| {
        platform.architecture == own || (own == "amd64" && platform.architecture == "386")
    };
    let of = |platform: Platform| {
        let emulator = (!is_native(&platform)).then(|| SOME_EMULATOR.to_owned());
        Known { platform, broken: None, emulator }
    };
    platforms.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_its_relatives_are_native() {
        let platforms = ["linux/amd64", "linux/amd64/v2", "linux/386", "linux/arm64", "linux/arm/v7"];
        let known = known(platforms.map(|text| text.parse().unwrap()).into());
        let native: Vec<_> = known.iter().map(|known| known.emulator.is_none()).collect();
        assert_eq!(native, [true, true, true, false, false]);
    }

    #[test]
    fn a_machine_has_the_first_address_that_is_one() {
        let labels = |text: &str| [(GATEWAY.to_owned(), text.to_owned())].into();
        assert_eq!(labelled(&labels("172.17.0.1,fd00::1")), Some([172, 17, 0, 1].into()));
        assert_eq!(labelled(&labels("")), None);
        assert_eq!(labelled(&HashMap::new()), None);
    }
}
