//! Asks a registry for manifests (OCI distribution 1.1, "Pulling manifests").

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
        "the login for the registry {registry} is an identity token, which mvm imagetools cannot use; log in with a password or an access token"
    )]
    IdentityToken { registry: String },
    #[error("the registry {registry} did not give {image}")]
    Failed { image: String, registry: String, source: OciDistributionError },
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
        let auth = match credential {
            Some(Credential::Password { username, password }) => {
                RegistryAuth::Basic(username.clone(), password.clone())
            }
            Some(Credential::IdentityToken(_)) => {
                return Err(Error::IdentityToken { registry: image.registry().to_owned() });
            }
            None => RegistryAuth::Anonymous,
        };
        match self.client.pull_manifest_raw(image.full(), &auth, &MANIFESTS).await {
            Ok((bytes, digest)) => Ok(Manifest { bytes: bytes.to_vec(), digest }),
            Err(source) => Err(explain(image, source)),
        }
    }
}

fn explain(image: &ImageRef, source: OciDistributionError) -> Error {
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
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            Error::Refused { image, registry }
        }
        OciDistributionError::RequestError(error) if error.is_connect() || error.is_timeout() => {
            Error::Unreachable { image, registry, source }
        }
        _ => Error::Failed { image, registry, source },
    }
}
