//! What the user's Docker configuration has for a registry: `config.json` in `$DOCKER_CONFIG` or `~/.docker`, and the
//! credential helpers that it names. Read for each question, so a `docker login` counts at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use thiserror::Error;

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        username: String,
        password: String,
    },
    /// Exchanged for an access token at the registry's token service.
    IdentityToken(String),
}

impl std::fmt::Debug for Credential {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.debug_tuple("IdentityToken").finish_non_exhaustive(),
        }
    }
}

/// Why a registry's credential cannot be had.
#[derive(Debug, Error)]
pub enum CredentialError {
    #[error("cannot read {path:?}; correct it, or log in again")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot get the credential for {registry} that {path:?} speaks of: {source}; log in again")]
    Get {
        registry: String,
        path: PathBuf,
        #[source]
        source: CredentialRetrievalError,
    },
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub struct Credentials {
    config: Option<Arc<Path>>,
}

/// The key under which Docker Hub's credential is kept (docker/cli, `registry.IndexServer`), and names of its hosts.
const HUB: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["docker.io", "registry-1.docker.io", "index.docker.io"];

impl Credentials {
    /// From this user's configuration.
    pub fn from_env() -> Self {
        let directory =
            std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
        Self { config: directory.or_else(home).map(|directory| directory.join("config.json").into()) }
    }

    /// The file that they come from.
    pub fn configuration(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// For nobody.
    pub fn none() -> Self {
        Self { config: None }
    }

    /// The credential for a registry (`host` or `host:port`), if there is one. Starts a helper if the configuration
    /// says so, and waits for it.
    pub fn for_registry(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(path) = self.config.as_deref() else { return Ok(None) };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
        };
        let key = if HUB_HOSTS.contains(&registry) { HUB } else { registry };
        match docker_credential::get_credential_from_reader(text.as_slice(), key) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                Ok(Some(Credential::Password { username, password }))
            }
            Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
            Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
            // The helper's way to say that it has none (docker/docker-credential-helpers, `credentials/error.go`).
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.contains("credentials not found") =>
            {
                Ok(None)
            }
            Err(source) => {
                Err(CredentialError::Get { registry: registry.to_owned(), path: path.to_owned(), source })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(directory: &tempfile::TempDir, config: &str) -> Credentials {
        let path = directory.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        Credentials { config: Some(path.into()) }
    }

    #[test]
    fn passwords_tokens_and_the_hub() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = credentials(
            &directory,
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6aHVi"},
                "127.0.0.1:5000": {"auth": "bWU6YTpi"},
                "token.example": {"identitytoken": "t0ken"},
                "empty.example": {}}}"#,
        );
        let password = |password: &str| {
            Some(Credential::Password { username: "me".to_owned(), password: password.to_owned() })
        };
        for host in HUB_HOSTS {
            assert_eq!(credentials.for_registry(host).unwrap(), password("hub"), "{host}");
        }
        assert_eq!(credentials.for_registry("127.0.0.1:5000").unwrap(), password("a:b"));
        let token = Credential::IdentityToken("t0ken".to_owned());
        assert_eq!(format!("{token:?}"), "IdentityToken(..)");
        assert_eq!(credentials.for_registry("token.example").unwrap(), Some(token));
        assert_eq!(credentials.for_registry("empty.example").unwrap(), None);
        assert_eq!(credentials.for_registry("127.0.0.1:5001").unwrap(), None);
    }

    #[test]
    fn without_a_configuration_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let absent = Credentials { config: Some(directory.path().join("config.json").into()) };
        assert_eq!(absent.for_registry("docker.io").unwrap(), None);
        assert_eq!(Credentials::none().for_registry("docker.io").unwrap(), None);
    }

    #[test]
    fn a_broken_configuration_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            credentials(&directory, r#"{"auths": {"x.example": {"auth": "%"}}}"#).for_registry("x.example");
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("cannot get the credential for x.example that "), "{text}");
        assert!(text.ends_with("Unable to decode credential; log in again"), "{text}");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Credential::Password { username: "me".to_owned(), password: "s3cret".to_owned() };
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
