//! An image comes into the layout: what is there stays, and what was broken off goes on.

use std::collections::BTreeMap;
use std::io;

use futures::{StreamExt, TryStreamExt};
use images::image::{ImageError, attestations, for_this_machine};
use images::layout::graph::{deeper, is_index, is_manifest};
use images::layout::{Arrival, Layout, LayoutError};
use images::progress::{Event, Progress};
use oci_client::errors::OciDistributionError;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use super::patience::{Patience, may_pass};
use super::{AT_ONCE, Tally};
use crate::registry::client::{Content, explain};
use crate::registry::credentials::{Credential, CredentialError, Credentials};
use crate::registry::mirror::places;
use crate::registry::{Error, ImageRef, InvalidImageRef, Mirror, Registry};

/// Why an image did not come.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Registry(#[from] Error),
    #[error("what the registry {registry} has as {image} is no manifest")]
    NoManifest { image: String, registry: String },
    #[error("the registry {registry} gave {found} where it was asked for {asked}")]
    Other { registry: String, asked: String, found: String },
    #[error("the image {image} cannot be used")]
    Image { image: String, source: ImageError },
    #[error("the registry {registry} gave something else for a part of {image}")]
    Wrong { image: String, registry: String, source: LayoutError },
    #[error(
        "the registry {registry} has only {have} of the {size} bytes of {digest}, a part of {image}; whoever pushed it has to push it again"
    )]
    Short { image: String, registry: String, digest: String, have: u64, size: u64 },
    #[error(
        "the connection to {registry} broke off at {have} of the {size} bytes of {digest}, a part of {image}, again and again; what has come is kept, and the next pull goes on from there"
    )]
    Lost {
        image: String,
        registry: String,
        digest: String,
        have: u64,
        size: u64,
        source: Box<OciDistributionError>,
    },
    #[error("cannot keep a part of {image}")]
    Layout { image: String, source: LayoutError },
    #[error(transparent)]
    Name(#[from] InvalidImageRef),
    #[error("what brought a part of {image} ended without a word")]
    Ended { image: String },
}

/// How images are pulled.
#[derive(Clone, Copy)]
pub struct Pull<'a> {
    pub layout: &'a Layout,
    pub credentials: &'a Credentials,
    pub mirrors: &'a [Mirror],
    /// Of an image for several platforms, all of them; else that of this machine.
    pub all_platforms: bool,
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Pull<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("mirrors", &self.mirrors).finish_non_exhaustive()
    }
}

impl Pull<'_> {
    /// Brings all of an image; its manifest or list of manifests, which has no name in the layout yet.
    pub async fn image(&self, image: &ImageRef) -> Result<Descriptor, PullError> {
        let places = places(image, self.mirrors)?;
        let (registry, mirrors) = (places.last().unwrap_or(image), places.len().saturating_sub(1));
        for mirror in places.iter().take(mirrors) {
            match self.from(mirror).await {
                Ok(found) => return Ok(found),
                // What a full disk says is nothing about the mirror.
                Err(error @ PullError::Layout { .. }) => return Err(error),
                Err(error) => {
                    let line = format!("{error}; asking {} next", image.registry());
                    self.progress.event(&Event::Said { stage: "pull", line: &line });
                }
            }
        }
        self.from(registry).await
    }

    async fn from(&self, image: &ImageRef) -> Result<Descriptor, PullError> {
        let registry = Registry::of(image);
        let credential = self.credentials.for_registry(image.registry())?;
        let credential = credential.as_ref();
        let top = self.manifest(&registry, image, credential).await?;
        let mut contents = BTreeMap::new();
        let mut manifests = vec![(top.clone(), 0)];
        while let Some((manifest, depth)) = manifests.pop() {
            if !is_index(&manifest) {
                let parts = self.layout.parts(&manifest).map_err(self.kept(image))?;
                contents.extend(parts.into_iter().map(|part| (part.digest().to_string(), part)));
                continue;
            }
            let depth = deeper(depth).map_err(self.kept(image))?;
            for wanted in self.wanted(image, &manifest)? {
                if !self.layout.has(&wanted) {
                    let named = image.with_digest(wanted.digest().as_ref());
                    self.manifest(&registry, &named, credential).await?;
                }
                manifests.push((wanted, depth));
            }
        }
        contents.retain(|_, content| !self.layout.has(content));
        self.contents(&registry, image, contents.into_values().collect()).await?;
        Ok(top)
    }

    /// A manifest, into the layout.
    async fn manifest(
        &self,
        registry: &Registry,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<Descriptor, PullError> {
        let mut patience = Patience::default();
        let manifest = loop {
            match registry.manifest(image, credential).await {
                Err(Error::Failed { source, .. }) if may_pass(&source) && patience.wait().await => {}
                other => break other?,
            }
        };
        let no_manifest =
            || PullError::NoManifest { image: image.to_string(), registry: image.registry().to_owned() };
        let media_type = media_type(&manifest.bytes).ok_or_else(no_manifest)?;
        let kept = self.layout.add_bytes(&media_type, &manifest.bytes).map_err(self.kept(image))?;
        if let Some(asked) = image.full().digest().filter(|asked| kept.digest().as_ref() != *asked) {
            return Err(PullError::Other {
                registry: image.registry().to_owned(),
                asked: asked.to_owned(),
                found: kept.digest().to_string(),
            });
        }
        if is_index(&kept) || is_manifest(&kept) { Ok(kept) } else { Err(no_manifest()) }
    }

    /// The manifests of an index that are to come.
    fn wanted(&self, image: &ImageRef, index: &Descriptor) -> Result<Vec<Descriptor>, PullError> {
        let index: ImageIndex = self.layout.document(index).map_err(self.kept(image))?;
        if self.all_platforms {
            return Ok(index.manifests().clone());
        }
        match for_this_machine(&index) {
            // With what its builder says of it.
            Ok(wanted) => {
                let of_it = attestations(&index, wanted);
                Ok([wanted].into_iter().chain(of_it).cloned().collect())
            }
            Err(source) => Err(PullError::Image { image: image.to_string(), source }),
        }
    }

    async fn contents(
        &self,
        registry: &Registry,
        image: &ImageRef,
        contents: Vec<Descriptor>,
    ) -> Result<(), PullError> {
        if contents.is_empty() {
            return Ok(());
        }
        let title = format!("pull {image}");
        let tally = Tally::of(&contents, &title, self.progress);
        futures::stream::iter(contents)
            .map(|content| self.content(registry, image, content, &tally))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        tally.end();
        Ok(())
    }

    /// One content, with as many tries as bring it further.
    async fn content(
        &self,
        registry: &Registry,
        image: &ImageRef,
        content: Descriptor,
        tally: &Tally<'_>,
    ) -> Result<(), PullError> {
        let Some(mut arrival) = self.arrival(image, &content).await? else {
            tally.add(content.size());
            return Ok(());
        };
        tally.add(arrival.have());
        let digest = content.digest().as_ref();
        let (mut patience, mut most) = (Patience::default(), arrival.have());
        let short = |arrival: &Arrival| PullError::Short {
            image: image.to_string(),
            registry: image.registry().to_owned(),
            digest: digest.to_owned(),
            have: arrival.have(),
            size: content.size(),
        };
        while arrival.missing() > 0 {
            let before = arrival.have();
            let ended = match registry.content(image, digest, before).await {
                Ok(coming) => self.receive(image, coming, &mut arrival, tally).await?,
                // It ends where this would go on.
                Err(OciDistributionError::ServerError { code: 416, .. }) => return Err(short(&arrival)),
                Err(error) if may_pass(&error) => Err(error),
                Err(error) => return Err(explain(image, error).into()),
            };
            // A registry that begins anew each time may bring less than it did before.
            if arrival.have() > most {
                most = arrival.have();
                patience.renew();
                continue;
            }
            match ended {
                Ok(()) => return Err(short(&arrival)),
                Err(_) if patience.wait().await => {}
                Err(source) => {
                    return Err(PullError::Lost {
                        image: image.to_string(),
                        registry: image.registry().to_owned(),
                        digest: digest.to_owned(),
                        have: arrival.have(),
                        size: content.size(),
                        source: Box::new(source),
                    });
                }
            }
        }
        arrival.finish().map_err(self.kept(image))
    }

    /// What comes until the connection ends, and how that was.
    async fn receive(
        &self,
        image: &ImageRef,
        mut coming: Content,
        arrival: &mut Arrival,
        tally: &Tally<'_>,
    ) -> Result<Result<(), OciDistributionError>, PullError> {
        if !coming.goes_on {
            tally.take_back(arrival.have());
            arrival.restart().map_err(self.kept(image))?;
        }
        while let Some(bytes) = coming.bytes.next().await {
            match bytes {
                Ok(bytes) => {
                    arrival.write(&bytes).map_err(self.kept(image))?;
                    tally.add(bytes.len() as u64);
                }
                Err(error) => return Ok(Err(io::Error::into(error))),
            }
        }
        Ok(Ok(()))
    }

    /// Waiting for another process that brings the same, and reading what it has brought, takes a thread.
    async fn arrival(&self, image: &ImageRef, content: &Descriptor) -> Result<Option<Arrival>, PullError> {
        let (layout, content) = (self.layout.clone(), content.clone());
        match tokio::task::spawn_blocking(move || layout.arrival(&content)).await {
            Ok(arrival) => arrival.map_err(self.kept(image)),
            Err(_) => Err(PullError::Ended { image: image.to_string() }),
        }
    }

    /// What is wrong with what came, or with the disk.
    fn kept(&self, image: &ImageRef) -> impl Fn(LayoutError) -> PullError {
        let (image, registry) = (image.to_string(), image.registry().to_owned());
        move |source| {
            let (image, registry) = (image.clone(), registry.clone());
            match source {
                LayoutError::Io { .. } => PullError::Layout { image, source },
                _ => PullError::Wrong { image, registry, source },
            }
        }
    }
}

/// What a manifest says it is; older ones only show it.
fn media_type(manifest: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let head: Head = serde_json::from_slice(manifest).ok()?;
    let shown = match (head.manifests, head.layers) {
        (Some(_), None) => Some(MediaType::ImageIndex),
        (None, Some(_)) => Some(MediaType::ImageManifest),
        _ => None,
    };
    head.media_type.or_else(|| shown.map(|shown| shown.to_string()))
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn a_manifest_says_or_shows_what_it_is() {
        let of = |text: &str| media_type(text.as_bytes());
        assert_eq!(of(r#"{"mediaType": "a/b", "layers": []}"#).as_deref(), Some("a/b"));
        assert_eq!(of(r#"{"manifests": []}"#).as_deref(), Some("application/vnd.oci.image.index.v1+json"));
        assert_eq!(of(r#"{"layers": []}"#).as_deref(), Some("application/vnd.oci.image.manifest.v1+json"));
        for nothing in ["{}", "<html>", r#"{"manifests": [], "layers": []}"#] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
