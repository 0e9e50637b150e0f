//! What an index lists, brought to the index's repository: mounted where the registry can, streamed where it cannot, and held
//! against its digest on the way.

use futures::{StreamExt, TryStreamExt};
use images::progress::{Stage, Unit};
use oci_client::errors::OciDistributionError;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::{Join, JoinError, Joined, is_list};
use crate::registry::client::explain_push;
use crate::registry::transfer::{AT_ONCE, Patience, may_pass};
use crate::registry::{ImageRef, Manifest, Registry};

/// Lists inside of lists: an index of an index is rare, more is nothing that can be pulled.
const DEPTH: usize = 2;

/// What has to be there before something that is taken as it is: what it lists, or itself by its digest.
pub(super) fn parts_of(
    source: &ImageRef,
    media_type: &str,
    manifest: &Manifest,
    listed: Vec<Descriptor>,
) -> Vec<(ImageRef, Descriptor)> {
    if !listed.is_empty() {
        return listed.into_iter().map(|part| (source.clone(), part)).collect();
    }
    let own = manifest.digest.parse().ok().and_then(|digest: oci_spec::image::Digest| {
        let built = oci_spec::image::DescriptorBuilder::default().media_type(media_type).digest(digest);
        built.size(manifest.bytes.len() as u64).build().ok()
    });
    own.into_iter().map(|part| (source.clone(), part)).collect()
}

/// From one repository to another.
struct Way<'a> {
    from: ImageRef,
    source: Registry,
    to: &'a ImageRef,
    target: &'a Registry,
}

impl Join<'_> {
    /// Gives something a name, after everything that it lists is in the name's repository.
    pub async fn push(&self, joined: &Joined, to: &ImageRef) -> Result<(), JoinError> {
        let target = Registry::of(to);
        let credential = self.credentials.for_registry(to.registry())?;
        target.begin_push(to, credential.as_ref()).await?;
        let title = format!("join {to}");
        let total = u64::try_from(joined.parts.len()).ok();
        let stage = Stage::start(self.progress, &title, total, Unit::Files);
        for (done, (source, part)) in (1_u64..).zip(&joined.parts) {
            if !source.is_in_repository_of(to) {
                let from = source.with_digest(part.digest().as_ref());
                let way = Way { source: Registry::of(&from), from, to, target: &target };
                self.copy(&way, part, 0).await?;
            }
            stage.advance(done);
        }
        stage.end();
        send(&target, to, &joined.media_type, &joined.bytes).await
    }

    /// A manifest with all that it names, or a list with all that it lists.
    async fn copy(&self, way: &Way<'_>, part: &Descriptor, depth: usize) -> Result<(), JoinError> {
        let digest = part.digest().as_ref();
        let from = way.from.with_digest(digest);
        let credential = self.credentials.for_registry(from.registry())?;
        let manifest = way.source.manifest(&from, credential.as_ref()).await?;
        let unreadable = |source| JoinError::Configuration { image: from.to_string(), source };
        if is_list(part) {
            if depth >= DEPTH {
                return Err(JoinError::Depth(from.to_string()));
            }
            let index: ImageIndex = serde_json::from_slice(&manifest.bytes).map_err(unreadable)?;
            for inner in index.manifests() {
                Box::pin(self.copy(way, inner, depth.saturating_add(1))).await?;
            }
        } else {
            let parsed: ImageManifest = serde_json::from_slice(&manifest.bytes).map_err(unreadable)?;
            let contents: Vec<_> = std::iter::once(parsed.config()).chain(parsed.layers()).cloned().collect();
            futures::stream::iter(contents)
                .map(|content| async move { way.content(&content).await })
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
        let to = way.to.with_digest(digest);
        send(way.target, &to, part.media_type().as_ref(), &manifest.bytes).await
    }
}

impl Way<'_> {
    async fn content(&self, content: &Descriptor) -> Result<(), JoinError> {
        let (digest, size) = (content.digest().as_ref(), content.size());
        let mut patience = Patience::default();
        loop {
            let sent = match self.target.has(self.to, digest).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.move_content(digest, size).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error) && patience.wait().await => {}
                Err(error) => return Err(explain_push(self.to, error).into()),
            }
        }
    }

    async fn move_content(&self, digest: &str, size: u64) -> Result<(), OciDistributionError> {
        // Within a registry nothing has to travel, if it wants to and this login may.
        if self.from.registry() == self.to.registry()
            && self.target.mount(self.to, &self.from, digest).await.is_ok()
        {
            return Ok(());
        }
        let bytes = self.source.verified(&self.from, digest).await?.map_err(OciDistributionError::from);
        self.target.send(self.to, digest, size, bytes).await
    }
}

async fn send(registry: &Registry, to: &ImageRef, media_type: &str, bytes: &[u8]) -> Result<(), JoinError> {
    let mut patience = Patience::default();
    loop {
        match registry.send_manifest(to, media_type, bytes.to_vec()).await {
            Ok(()) => return Ok(()),
            Err(error) if may_pass(&error) && patience.wait().await => {}
            Err(error) => return Err(explain_push(to, error).into()),
        }
    }
}
