//! Fetches an image into the builder. The pull happens in the guest.

use std::collections::HashMap;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;

use super::{Builder, Error, error};
use crate::registry::credentials::Credential;
use crate::registry::{ImageRef, Platform};

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum PullPolicy {
    /// Every time, so that a tag that has moved is followed
    Always,
    /// If the builder has no such image for the platform
    #[default]
    Missing,
    /// At no time
    Never,
}

/// Hears how a pull goes.
pub trait PullWatcher {
    fn started(&mut self, image: &ImageRef, platform: Option<&Platform>);
    /// Bytes that have come, of those that are known to be coming.
    fn progress(&mut self, done: u64, total: u64);
    fn ended(&mut self);
}

impl Builder {
    /// Pulls an image, for one platform if that is given and for the builder's own otherwise.
    pub(super) async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        credential: Option<&Credential>,
        watcher: &mut dyn PullWatcher,
    ) -> Result<(), Error> {
        watcher.started(image, platform);
        let mut options = CreateImageOptionsBuilder::new().from_image(&image.to_string());
        if let Some(platform) = platform {
            options = options.platform(&platform.to_string());
        }
        let credentials = credential.map(|credential| credentials(image, credential));
        let mut events = self.client.create_image(Some(options.build()), None, credentials);
        let mut layers = Layers::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let (done, total) = layers.add(&event);
                    watcher.progress(done, total);
                }
                Err(source) => return Err(self.explain(image, platform, credential, source).await),
            }
        }
        watcher.ended();
        Ok(())
    }

    async fn explain(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        credential: Option<&Credential>,
        source: bollard::errors::Error,
    ) -> Error {
        let Some((status, reason)) = error::message(&source) else {
            return Error::Lost { source: source.into() };
        };
        // containerd's text (core/images, `Manifest`); the status is 404 for a missing image as well.
        if reason.contains("no match for platform in manifest") {
            return self.platform_missing(image, platform, credential).await;
        }
        if status == 404 || reason.ends_with(": not found") || reason.contains("repository does not exist") {
            let registry = image.registry().to_owned();
            return Error::ImageNotFound { image: image.written().to_owned(), registry };
        }
        Error::Pull { image: image.to_string(), reason }
    }

    /// The error that lists what the image is for, as its registry has it.
    pub(super) async fn platform_missing(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        credential: Option<&Credential>,
    ) -> Error {
        let credentials = credential.map(|credential| credentials(image, credential));
        let whole = image.to_string();
        let wanted = platform.map_or_else(|| "the builder's own platform".to_owned(), ToString::to_string);
        match self.client.inspect_registry_image(&whole, credentials).await {
            Ok(found) => {
                let normal = |platform: bollard::models::OciPlatform| {
                    let part = Option::unwrap_or_default;
                    Platform::new(&part(platform.os), &part(platform.architecture), &part(platform.variant))
                };
                let has = found.platforms.into_iter().map(normal);
                // Attestations are listed as unknown/unknown.
                let has = has.filter(|platform| platform.os != "unknown").collect();
                Error::PlatformMissing { image: image.written().to_owned(), wanted, has }
            }
            Err(error) => Error::PlatformNotHere {
                image: image.written().to_owned(),
                wanted,
                reason: error::message(&error).map_or_else(|| error.to_string(), |(_, reason)| reason),
            },
        }
    }
}

fn credentials(image: &ImageRef, credential: &Credential) -> DockerCredentials {
    let serveraddress = Some(image.registry().to_owned());
    match credential {
        Credential::Password { username, password } => DockerCredentials {
            username: Some(username.clone()),
            password: Some(password.clone()),
            serveraddress,
            ..DockerCredentials::default()
        },
        Credential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token.clone()),
            serveraddress,
            ..DockerCredentials::default()
        },
    }
}

/// How much of each layer has come.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, event: &CreateImageInfo) -> (u64, u64) {
        let detail = event.progress_detail.as_ref();
        if let (Some(id), Some(detail), Some("Downloading")) = (&event.id, detail, event.status.as_deref()) {
            let count = |number: Option<i64>| number.and_then(|number| number.try_into().ok()).unwrap_or(0);
            self.0.insert(id.clone(), (count(detail.current), count(detail.total)));
        }
        if let (Some(id), Some("Download complete")) = (&event.id, event.status.as_deref()) {
            self.0.entry(id.clone()).and_modify(|(done, total)| *done = *total);
        }
        self.0.values().fold((0, 0), |(done, total), layer| {
            (layer.0.saturating_add(done), layer.1.saturating_add(total))
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{CreateImageInfo, ProgressDetail};

    use super::Layers;

    fn event(id: &str, status: &str, bytes: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: bytes
                .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn layers_are_summed_and_a_complete_one_counts_whole() {
        let mut layers = Layers::default();
        assert_eq!(layers.add(&event("latest", "Pulling from demo", None)), (0, 0));
        assert_eq!(layers.add(&event("a", "Downloading", Some((5, 10)))), (5, 10));
        assert_eq!(layers.add(&event("b", "Downloading", Some((-1, 20)))), (5, 30));
        assert_eq!(layers.add(&event("a", "Download complete", None)), (10, 30));
    }
}
