//! The containers that there are, and what they print.

use bollard::errors::Error as Api;
use bollard::models::{ContainerSummary, ImageManifestSummary, ImageSummary, OciPlatform};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures::{Stream, StreamExt};
use serde::Serialize;

use bollard::container::LogOutput;

use super::{Builder, Error};
use crate::printable::printable;

/// How long a container that is told to end may take, in seconds, as Docker has it.
const GRACE: i32 = 10;

/// A container, as far as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub image: String,
    /// None where the daemon does not say.
    pub platform: Option<String>,
    pub command: String,
    /// As in "running" or "exited".
    pub state: String,
    /// As in "Up 3 minutes".
    pub status: String,
    /// As in "127.0.0.1:5000->80/tcp".
    pub ports: Vec<String>,
}

impl From<ContainerSummary> for Listed {
    fn from(container: ContainerSummary) -> Self {
        let text = |text: Option<String>| printable(&text.unwrap_or_default());
        let platform = container.image_manifest_descriptor.and_then(|manifest| manifest.platform);
        let ports = container.ports.unwrap_or_default().into_iter().map(|port| {
            let kind = port.typ.map(|kind| kind.to_string()).unwrap_or_default();
            let inside = format!("{}/{kind}", port.private_port);
            match (port.ip, port.public_port) {
                (Some(ip), Some(public)) => printable(&format!("{ip}:{public}->{inside}")),
                _ => inside,
            }
        });
        let names = container.names.unwrap_or_default();
        Self {
            id: text(container.id),
            name: printable(names.first().map_or("", |name| name.trim_start_matches('/'))),
            image: text(container.image),
            platform: platform.map(named),
            command: text(container.command),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
            status: text(container.status),
            ports: ports.collect(),
        }
    }
}

/// An image in the daemon's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of its manifest or index.
    pub digest: String,
    pub names: Vec<String>,
    /// Each platform, and whether everything of it is there.
    pub platforms: Vec<(String, bool)>,
}

impl Builder {
    /// The images that it has, with their platforms.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let options = ListImagesOptionsBuilder::new().manifests(true).build();
        let found = self.client.list_images(Some(options)).await;
        let found = found.map_err(|source| Error::from_api("list its images", source))?;
        let image = |image: ImageSummary| Image {
            digest: image.id,
            names: image.repo_tags.iter().map(|name| printable(name)).collect(),
            platforms: image.manifests.unwrap_or_default().into_iter().filter_map(of_platform).collect(),
        };
        Ok(found.into_iter().map(image).collect())
    }

    /// Those that run, or all of them.
    pub async fn containers(&self, all: bool) -> Result<Vec<Listed>, Error> {
        let options = ListContainersOptionsBuilder::new().all(all).build();
        let found = self.client.list_containers(Some(options)).await;
        let found = found.map_err(|source| Error::from_api("list its containers", source))?;
        Ok(found.into_iter().map(Listed::from).collect())
    }

    /// Whether there is one of this name, or whose id begins so.
    pub async fn has_container(&self, name: &str) -> Result<bool, Error> {
        match self.client.inspect_container(name, None).await {
            Ok(_) => Ok(true),
            Err(Api::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(source) => Err(Error::from_api("look for the container", source)),
        }
    }

    /// Tells it to end, and kills it if it does not.
    pub async fn stop_container(&self, name: &str) -> Result<(), Error> {
        let options = StopContainerOptionsBuilder::new().t(GRACE).build();
        let stopped = self.client.stop_container(name, Some(options)).await;
        stopped.map_err(|source| of_container(name, "stop the container", source))
    }

    /// Takes it away; one that runs only by force.
    pub async fn remove_container(&self, name: &str, by_force: bool) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().v(true).force(by_force).build();
        let removed = self.client.remove_container(name, Some(options)).await;
        removed.map_err(|source| of_container(name, "remove the container", source))
    }

    /// What it has printed, and with `follow` what it prints until it ends.
    pub fn container_logs(
        &self,
        name: &str,
        follow: bool,
    ) -> impl Stream<Item = Result<LogOutput, Error>> + use<> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).build();
        let name = name.to_owned();
        let lines = self.client.logs(&name, Some(options));
        lines.map(move |line| {
            line.map_err(|source| of_container(&name, "show what the container printed", source))
        })
    }
}

/// None for an attestation.
fn of_platform(manifest: ImageManifestSummary) -> Option<(String, bool)> {
    Some((named(manifest.image_data?.platform), manifest.available))
}

/// `linux/arm/v7`, of what a daemon says of it.
fn named(platform: OciPlatform) -> String {
    let parts = [platform.os, platform.architecture, platform.variant].into_iter().flatten();
    printable(&parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

fn of_container(name: &str, what: &'static str, error: Api) -> Error {
    match error {
        Api::DockerResponseServerError { status_code: 404, .. } => Error::NoContainer(name.to_owned()),
        error => Error::from_api(what, error),
    }
}
