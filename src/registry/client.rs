//! Speaks with a registry (OCI distribution 1.1).

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use oci_client::RegistryOperation;
use oci_client::client::BlobResponse;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use super::ImageRef;
use super::credentials::Credential;
use super::reference::speaks_http;

/// Every kind of manifest that says what an image is made of.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest as the registry holds it, byte for byte, which is what its digest is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub bytes: Vec<u8>,
    pub digest: String,
}

/// The registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{image} is not in the registry {registry}; check the name and the tag")]
    NotFound { image: String, registry: String },
    #[error(
        "the registry {registry} refuses {image}: it wants a login, or the image does not exist; log in with `docker login {registry}`, or put the credentials in ~/.docker/config.json"
    )]
    Refused { image: String, registry: String },
    #[error("cannot reach the registry {registry} for {image}; check its name and that it runs")]
    Unreachable { image: String, registry: String, source: OciDistributionError },
    #[error(
        "the login for the registry {registry} is an identity token, which mvm cannot use here; log in with a password or an access token"
    )]
    IdentityToken { registry: String },
    #[error("the registry {registry} did not give {image}")]
    Failed { image: String, registry: String, source: OciDistributionError },
    #[error("the registry {registry} did not take {image}")]
    NotTaken { image: String, registry: String, source: OciDistributionError },
}

/// A part of an image as it comes.
pub(super) struct Content {
    /// Whether it begins where it was asked to, and not at the beginning.
    pub(super) goes_on: bool,
    pub(super) bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

/// A client of registries, for as many images as wanted.
pub struct Registry {
    client: oci_client::Client,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// For the registry of one image: plain HTTP on loopback, HTTPS everywhere else.
    pub fn of(image: &ImageRef) -> Self {
        // Only the first call in a process installs it; that it is installed already is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol =
            if speaks_http(image.registry()) { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(std::time::Duration::from_secs(20)),
            read_timeout: Some(std::time::Duration::from_secs(60)),
            // One request for each content: nothing of it is held in memory.
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        Self { client: oci_client::Client::new(config) }
    }

    /// The manifest, or the list of manifests, that the image's name stands for.
    pub async fn manifest(
        &self,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<Manifest, Error> {
        let auth = auth(image, credential)?;
        match self.client.pull_manifest_raw(image.full(), &auth, &MANIFESTS).await {
            Ok((bytes, digest)) => Ok(Manifest { bytes: bytes.to_vec(), digest }),
            Err(source) => Err(explain(image, source)),
        }
    }

    /// A content of the image from some byte on, which nobody has held against its digest. Whoever asks has been given a manifest by
    /// this client before.
    pub(super) async fn content(
        &self,
        image: &ImageRef,
        digest: &str,
        from: u64,
    ) -> Result<Content, OciDistributionError> {
        let response = self.client.pull_blob_stream_partial(image.full(), digest, from, None).await?;
        Ok(match response {
            BlobResponse::Full(all) => Content { goes_on: false, bytes: all.stream },
            BlobResponse::Partial(rest) => Content { goes_on: true, bytes: rest.stream },
        })
    }

    /// A content from its beginning; where it is not what its digest says, there is an error in the place of its last piece.
    pub(super) async fn verified(
        &self,
        image: &ImageRef,
        digest: &str,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, OciDistributionError> {
        Ok(end_first(self.client.pull_blob_stream(image.full(), digest).await?.stream))
    }

    /// A content that is read whole, as a configuration is.
    pub(super) async fn document(
        &self,
        image: &ImageRef,
        digest: &str,
        longest: usize,
    ) -> Result<Vec<u8>, Error> {
        let failed = |source| explain(image, source);
        let mut content = self.verified(image, digest).await.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(piece) = content.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| failed(error.into()))?);
            if bytes.len() > longest {
                let error = std::io::Error::other("it is longer than such a document can be");
                return Err(failed(error.into()));
            }
        }
        Ok(bytes)
    }

    /// Asks to have a content of another repository of the registry in this one; an error where it is not done.
    pub(super) async fn mount(
        &self,
        to: &ImageRef,
        from: &ImageRef,
        digest: &str,
    ) -> Result<(), OciDistributionError> {
        self.client.mount_blob(to.full(), from.full(), digest).await
    }

    /// Asks to be let in, for all that is sent afterwards.
    pub(super) async fn begin_push(
        &self,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<(), Error> {
        let auth = auth(image, credential)?;
        let asked = self.client.auth(image.full(), &auth, RegistryOperation::Push).await;
        asked.map(drop).map_err(|source| explain_push(image, source))
    }

    pub(super) async fn has(&self, image: &ImageRef, digest: &str) -> Result<bool, OciDistributionError> {
        self.client.blob_exists(image.full(), digest).await
    }

    /// Sends a content whole.
    pub(super) async fn send(
        &self,
        image: &ImageRef,
        digest: &str,
        size: u64,
        bytes: impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static,
    ) -> Result<(), OciDistributionError> {
        self.client.push_blob_stream(image.full(), bytes, digest, Some(size)).await.map(drop)
    }

    /// Gives the image's name to a manifest whose parts are there.
    pub(super) async fn send_manifest(
        &self,
        image: &ImageRef,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<(), OciDistributionError> {
        let media_type = media_type
            .parse()
            .map_err(|_| OciDistributionError::UnsupportedMediaTypeError(media_type.to_owned()))?;
        self.client.push_manifest_raw(image.full(), bytes, media_type).await.map(drop)
    }
}

/// Hears how a stream ends before its last piece is given on: whoever counts the bytes does not ask for more than those.
fn end_first(
    stream: BoxStream<'static, std::io::Result<Bytes>>,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let pieces = futures::stream::try_unfold((stream.fuse(), None), |(mut stream, mut held)| async move {
        while let Some(piece) = stream.try_next().await? {
            if let Some(before) = held.replace(piece) {
                return Ok(Some((before, (stream, held))));
            }
        }
        Ok(held.map(|last| (last, (stream, None))))
    });
    pieces.boxed()
}

fn auth(image: &ImageRef, credential: Option<&Credential>) -> Result<RegistryAuth, Error> {
    match credential {
        Some(Credential::Password { username, password }) => {
            Ok(RegistryAuth::Basic(username.clone(), password.clone()))
        }
        Some(Credential::IdentityToken(_)) => {
            Err(Error::IdentityToken { registry: image.registry().to_owned() })
        }
        None => Ok(RegistryAuth::Anonymous),
    }
}

/// What a push failed for: what the registry did not take, unless it could not be asked.
pub(super) fn explain_push(image: &ImageRef, source: OciDistributionError) -> Error {
    match explain(image, source) {
        Error::Failed { image, registry, source } => Error::NotTaken { image, registry, source },
        other => other,
    }
}

pub(super) fn explain(image: &ImageRef, source: OciDistributionError) -> Error {
    let registry = image.registry().to_owned();
    let image = image.to_string();
    match &source {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => Error::NotFound { image, registry },
        OciDistributionError::RegistryError { envelope, .. } => {
            let has =
                |wanted: fn(&OciErrorCode) -> bool| envelope.errors.iter().any(|error| wanted(&error.code));
            if has(|code| {
                matches!(
                    code,
                    OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
                )
            }) {
                Error::NotFound { image, registry }
            } else if has(|code| matches!(code, OciErrorCode::Unauthorized | OciErrorCode::Denied)) {
                Error::Refused { image, registry }
            } else {
                Error::Failed { image, registry, source }
            }
        }
        OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::ServerError { code: 401 | 403, .. } => Error::Refused { image, registry },
        OciDistributionError::RequestError(error) if error.is_connect() || error.is_timeout() => {
            Error::Unreachable { image, registry, source }
        }
        OciDistributionError::RequestError(error) if error.status().is_some_and(is_refusal) => {
            Error::Refused { image, registry }
        }
        _ => Error::Failed { image, registry, source },
    }
}

fn is_refusal(status: reqwest::StatusCode) -> bool {
    matches!(status, reqwest::StatusCode::UNAUTHORIZED | reqwest::StatusCode::FORBIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_end_is_heard_of_before_the_last_piece() {
        let told = async |pieces: Vec<std::io::Result<Bytes>>| -> Vec<Option<Bytes>> {
            let stream = end_first(futures::stream::iter(pieces).boxed());
            stream.map(Result::ok).collect().await
        };
        let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        let whole = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(told(vec![piece("a"), piece("b")]).await, [whole("a"), whole("b")]);
        assert_eq!(told(vec![]).await, []);
        let wrong = Err(std::io::Error::other("wrong"));
        assert_eq!(told(vec![piece("a"), piece("b"), wrong]).await, [whole("a"), None]);
    }
}
