//! Where a builder is: something that speaks BuildKit's control API.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::InfoRequest;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Uri};

use super::error::root;
use super::solve::client;

/// Windows large enough that the daemon never waits for us to allow it more; what comes is read at once.
const WINDOW: u32 = 8 * 1024 * 1024;
/// How long another host may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A builder's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An instance of ours: a socket that speaks the control API, and one of the dockerd that the builder is part of.
    Instance {
        buildkit: PathBuf,
        docker: PathBuf,
    },
    Unix(PathBuf),
    /// A port of a host, "HOST:PORT".
    Tcp {
        authority: String,
        tls: Option<Tls>,
    },
    /// Standard input and output of a program with these words: ssh, with what it runs over there.
    Program(Vec<String>),
}

/// What a connection over TLS needs: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who may have signed the builder's certificate.
    pub ca: PathBuf,
    /// Our own certificate and its key, for a builder that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the builder's certificate, where it is not the host's.
    pub server_name: Option<String>,
}

/// Why there is no builder at an address.
#[derive(Debug, Error)]
pub enum EndpointError {
    #[error("no builder answers at {socket:?}; start it with `mvm up`")]
    Connect {
        socket: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the builder at {socket:?} takes no session; see `mvm status`")]
    Session {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no builder answers at {endpoint}")]
    Far {
        endpoint: Box<Endpoint>,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("no builder answers at {endpoint}: {reason}")]
    Silent { endpoint: Box<Endpoint>, reason: String },
    #[error("cannot read {path:?}, which the connection to {endpoint} needs")]
    File {
        endpoint: Box<Endpoint>,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Endpoint {
    /// Connects; all calls of one build go over this one connection.
    pub(crate) async fn connect(&self) -> Result<Channel, EndpointError> {
        // Far away, that there is a connection says little: whether it knows our certificate, a server of TLS 1.3 says only when
        // it is asked for something, and ssh is on its way when it is started.
        match self {
            Self::Instance { .. } | Self::Unix(_) => self.dial().await,
            Self::Tcp { .. } | Self::Program(_) => self.answering().await,
        }
    }

    /// The same, and it has answered something: a machine that stands still takes connections, too.
    pub(crate) async fn answering(&self) -> Result<Channel, EndpointError> {
        let channel = self.dial().await?;
        let silent = |reason| Err(EndpointError::Silent { endpoint: self.clone().into(), reason });
        let mut control = client(channel.clone());
        match tokio::time::timeout(PATIENCE, control.info(InfoRequest {})).await {
            Err(_) => silent(format!("it says nothing for {} s", PATIENCE.as_secs())),
            // Any answer will do: BuildKit before v0.11 does not know the question.
            Ok(Err(status)) if status.code() != Code::Unimplemented => silent(root(&status)),
            Ok(_) => Ok(channel),
        }
    }

    async fn dial(&self) -> Result<Channel, EndpointError> {
        match self {
            Self::Instance { buildkit: socket, .. } | Self::Unix(socket) => {
                let shared: Arc<Path> = socket.as_path().into();
                let connector = tower::service_fn(move |_: Uri| {
                    let socket = Arc::clone(&shared);
                    async move { UnixStream::connect(&socket).await.map(TokioIo::new) }
                });
                let connected = without_name().connect_with_connector(connector).await;
                connected.map_err(|source| EndpointError::Connect { socket: socket.clone(), source })
            }
            Self::Tcp { authority, tls } => {
                let far = |source| EndpointError::Far { endpoint: self.clone().into(), source };
                let scheme = if tls.is_some() { "https" } else { "http" };
                let endpoint = tonic::transport::Endpoint::from_shared(format!("{scheme}://{authority}"));
                let mut endpoint = windows(endpoint.map_err(far)?).connect_timeout(PATIENCE);
                if let Some(tls) = tls {
                    endpoint = endpoint.tls_config(self.configured(tls)?).map_err(far)?;
                }
                endpoint.connect().await.map_err(far)
            }
            Self::Program(words) => {
                let words: Arc<[String]> = words.as_slice().into();
                let connector = tower::service_fn(move |_: Uri| {
                    let words = Arc::clone(&words);
                    async move { started(&words).map(TokioIo::new) }
                });
                let connected = without_name().connect_with_connector(connector).await;
                connected.map_err(|source| EndpointError::Far { endpoint: self.clone().into(), source })
            }
        }
    }

    fn configured(&self, tls: &Tls) -> Result<ClientTlsConfig, EndpointError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| EndpointError::File {
                endpoint: self.clone().into(),
                path: path.clone(),
                source,
            })
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&tls.ca)?));
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(match &tls.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance { buildkit: socket, .. } | Self::Unix(socket) => write!(f, "{socket:?}"),
            Self::Tcp { authority, .. } => write!(f, "tcp://{authority}"),
            Self::Program(words) => write!(f, "the other end of `{}`", words.join(" ")),
        }
    }
}

/// The name stands in requests and means nothing to the daemon.
fn without_name() -> tonic::transport::Endpoint {
    windows(tonic::transport::Endpoint::from_static("http://buildkit"))
}

fn windows(endpoint: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW)
}

/// Starts a program that is the way to a builder. It ends with its standard input, or else with this process; what it says itself
/// of what goes wrong is for the user to see.
fn started(words: &[String]) -> std::io::Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + use<>> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| std::io::Error::other("there is no program to start"))?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot start {program}, which is the way there: {error}"))
    })?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("the program has no standard input and output"));
    };
    tokio::spawn(async move { child.wait().await });
    Ok(tokio::io::join(output, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = Endpoint::Unix(directory.path().join("none.sock"));
        let error = nowhere.connect().await.unwrap_err();
        assert!(error.to_string().ends_with("none.sock\"; start it with `mvm up`"), "{error}");

        let tls = Tls { ca: directory.path().join("ca.pem"), identity: None, server_name: None };
        let without_file = Endpoint::Tcp { authority: "127.0.0.1:1".to_owned(), tls: Some(tls) };
        let error = without_file.connect().await.unwrap_err().to_string();
        assert!(error.contains("ca.pem\", which the connection to tcp://127.0.0.1:1 needs"), "{error}");
        let missing = Endpoint::Program(vec!["/no/such/program".to_owned(), "host".to_owned()]);
        let error = crate::chain::Chain(&missing.connect().await.unwrap_err()).to_string();
        assert!(error.contains("cannot start /no/such/program, which is the way there"), "{error}");
    }
}
