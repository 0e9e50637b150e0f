//! What the layout has goes to a registry: the contents that it lacks, and then what names them.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use images::layout::graph::{is_index, is_manifest};
use images::layout::{Layout, LayoutError};
use images::progress::Progress;
use oci_client::errors::OciDistributionError;
use oci_spec::image::Descriptor;
use tokio::io::AsyncReadExt;

use super::patience::{Patience, may_pass};
use super::{AT_ONCE, Tally};
use crate::registry::client::explain_push;
use crate::registry::credentials::{CredentialError, Credentials};
use crate::registry::{Error, ImageRef, Registry};

/// How much of a content is in memory.
const PIECE: usize = 256 << 10;

/// Why an image did not go.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("{name} is not whole")]
    Incomplete { name: String, source: LayoutError },
    #[error(
        "of {name} only the part for this machine's platform is here; `mvm image pull --all-platforms {name}` brings the others"
    )]
    Partial { name: String },
    #[error(
        "a name with a digest is a name of what is there already; push it to a name with a tag, and not to {0}"
    )]
    Digest(String),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Registry(#[from] Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
}

/// How images are pushed.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    pub layout: &'a Layout,
    pub credentials: &'a Credentials,
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Push<'_> {
    /// Sends what the layout calls `name`, to be called `to`.
    pub async fn image(&self, name: &str, image: &Descriptor, to: &ImageRef) -> Result<(), PushError> {
        if to.has_digest() {
            return Err(PushError::Digest(to.to_string()));
        }
        let incomplete = |source| PushError::Incomplete { name: name.to_owned(), source };
        self.layout.is_whole(image).map_err(incomplete)?;
        let all = self.layout.reachable(image)?;
        for index in all.values().filter(|each| is_index(each)) {
            if !self.layout.parts(index)?.iter().all(|part| self.layout.has(part)) {
                return Err(PushError::Partial { name: name.to_owned() });
            }
        }
        let registry = Registry::of(to);
        let credential = self.credentials.for_registry(to.registry())?;
        registry.begin_push(to, credential.as_ref()).await?;
        let (names, contents): (Vec<_>, Vec<_>) =
            all.into_values().partition(|each| is_index(each) || is_manifest(each));
        self.contents(&registry, to, contents).await?;
        // What is named has to be there before what names it.
        let (indexes, manifests): (Vec<_>, Vec<_>) = names.into_iter().partition(is_index);
        for each in manifests.iter().chain(&indexes).filter(|each| each.digest() != image.digest()) {
            self.manifest(&registry, &to.with_digest(each.digest().as_ref()), each).await?;
        }
        self.manifest(&registry, to, image).await
    }

    async fn contents(
        &self,
        registry: &Registry,
        to: &ImageRef,
        contents: Vec<Descriptor>,
    ) -> Result<(), PushError> {
        let title = format!("push {to}");
        let tally = Tally::of(&contents, &title, self.progress);
        let tally_of = &tally;
        futures::stream::iter(contents)
            .map(|content| async move {
                self.content(registry, to, &content).await?;
                tally_of.add(content.size());
                Ok::<_, PushError>(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        tally.end();
        Ok(())
    }

    /// One content, unless the registry has it.
    async fn content(
        &self,
        registry: &Registry,
        to: &ImageRef,
        content: &Descriptor,
    ) -> Result<(), PushError> {
        let (digest, size) = (content.digest().as_ref(), content.size());
        let mut patience = Patience::default();
        loop {
            let sent = match registry.has(to, digest).await {
                Ok(true) => return Ok(()),
                Ok(false) => registry.send(to, digest, size, self.bytes(content).await?).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error) && patience.wait().await => {}
                Err(error) => return Err(explain_push(to, error).into()),
            }
        }
    }

    async fn bytes(
        &self,
        content: &Descriptor,
    ) -> Result<BoxStream<'static, Result<Bytes, OciDistributionError>>, PushError> {
        let path = self.layout.blob(content.digest());
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(source) => return Err(PushError::Read { path, source }),
        };
        let pieces = futures::stream::try_unfold(file, |mut file| async move {
            let mut piece = Vec::with_capacity(PIECE);
            let count = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
            Ok((count > 0).then(|| (Bytes::from(piece), file)))
        });
        Ok(pieces.boxed())
    }

    async fn manifest(
        &self,
        registry: &Registry,
        to: &ImageRef,
        manifest: &Descriptor,
    ) -> Result<(), PushError> {
        let path = self.layout.blob(manifest.digest());
        let bytes = tokio::fs::read(&path).await.map_err(|source| PushError::Read { path, source })?;
        let mut patience = Patience::default();
        loop {
            match registry.send_manifest(to, manifest.media_type().as_ref(), bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if may_pass(&error) && patience.wait().await => {}
                Err(error) => return Err(explain_push(to, error).into()),
            }
        }
    }
}
