//! One build from its request to its end: session, solve and status side by side.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusRequest, StatusResponse};
use futures::StreamExt;
use rustix::net::Shutdown;
use thiserror::Error;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::attach::{AttachError, Attached, FinishError, Rest};
use super::endpoint::{Endpoint, EndpointError};
use super::failure::Failure;
use super::request::{Answer, Build, Call, Store};
use super::session::{self, Session, Upload};
use super::together::TogetherError;
use super::worker::WorkerError;
use super::{hijack, tunnel, worker};
use crate::registry::credentials::Credentials;

/// BuildKit's own limit of a message.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// How long the status may pause once the solve has ended.
const LAST_STATUS: Duration = Duration::from_secs(30);
/// What comes so soon after another thing came with it.
const SAME_MOMENT: Duration = Duration::from_millis(100);
/// What is shown of a build's time is never older.
const TICK: Duration = Duration::from_millis(200);
/// And how long in all, for a builder that never comes to an end of it.
const ALL_STATUS: Duration = Duration::from_secs(60);
/// How long a cancelled build may take to end.
const CANCELLED: Duration = Duration::from_secs(3);

/// How a build ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The build's own name, by which its builder remembers it.
    pub reference: String,
    /// Everything that the exporters said (`containerimage.digest`, `image.name`, ...).
    pub response: HashMap<String, String>,
}

/// Why a build came to no image.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Finish(#[from] FinishError),
    #[error("the build failed: {0}")]
    Failed(Box<Failure>),
    #[error(
        "the connection to the builder was lost during the build ({0}); its virtual machine may have ended (see `mvm status`)"
    )]
    Lost(String),
    #[error(transparent)]
    Gateway(#[from] WorkerError),
    #[error("the build was cancelled")]
    Cancelled,
    #[error("node {node}: {source}")]
    Node { node: String, source: Box<BuildError> },
    #[error(transparent)]
    Together(#[from] TogetherError),
}

/// Who gets to see how a build goes on.
pub trait Observer {
    /// Something happened.
    fn update(&mut self, status: &StatusResponse);
    /// Time has passed.
    fn tick(&mut self) {}
    /// Something is not as it was asked for, and the build goes on.
    fn note(&mut self, text: &str);
    /// Nothing more will.
    fn end(&mut self);
}

/// What a build needs beside itself.
#[derive(Debug, Clone)]
pub struct Means {
    pub endpoint: Endpoint,
    pub store: Store,
    /// What tells this machine from others, for good.
    pub node: String,
    pub credentials: Credentials,
}

impl Outcome {
    /// The digest of the image, or of its index for several platforms.
    pub fn digest(&self) -> Option<&str> {
        self.response.get("containerimage.digest").map(String::as_str).filter(|digest| is_digest(digest))
    }

    /// What Docker calls the image's id: the digest of its configuration where the exporter said it, else that of the image.
    pub fn image_id(&self) -> Option<&str> {
        self.response.get("containerimage.config.digest").map(String::as_str).or(self.digest())
    }

    /// What was answered, where something was asked.
    pub fn answer(&self, call: &Call) -> Option<Answer> {
        call.answer(|key| self.response.get(key).cloned())
    }

    /// What the exporters said, with what is JSON in base64 (descriptors) as JSON.
    pub fn metadata(&self) -> BTreeMap<String, serde_json::Value> {
        let decoded = |text: &str| -> Option<serde_json::Value> {
            let value = serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()?;
            matches!(value, serde_json::Value::Object(_) | serde_json::Value::Array(_)).then_some(value)
        };
        let said = self.response.iter();
        said.map(|(key, text)| (key.clone(), decoded(text).unwrap_or_else(|| text.clone().into()))).collect()
    }
}

/// Builds. When `cancel` completes first, the builder is told to stop.
pub async fn build<O: Observer + ?Sized>(
    build: &Build,
    means: Means,
    observer: &mut O,
    cancel: impl Future<Output = ()>,
) -> Result<Outcome, BuildError> {
    let (outcome, rest) = solve(build, means, observer, cancel).await?;
    if build.call.is_none() {
        rest.finish(&outcome.response)?;
    }
    Ok(outcome)
}

/// Builds, but for what is left to do here.
pub(super) async fn solve<O: Observer + ?Sized>(
    build: &Build,
    means: Means,
    observer: &mut O,
    cancel: impl Future<Output = ()>,
) -> Result<(Outcome, Rest), BuildError> {
    let mut cancel = std::pin::pin!(cancel);
    let channel = tokio::select! {
        channel = means.endpoint.connect() => channel?,
        () = &mut cancel => return Err(BuildError::Cancelled),
    };
    let named;
    let build = if build.steps.name_the_gateway() {
        tokio::select! {
            gateway = worker::gateway(&means.endpoint) => named = build.with_gateway(gateway?),
            () = &mut cancel => return Err(BuildError::Cancelled),
        }
        &named
    } else {
        build
    };
    let secrets = build.secrets.clone();
    let read =
        tokio::task::spawn_blocking(move || secrets.iter().try_for_each(|secret| secret.read().map(drop)));
    tokio::select! {
        // What a step would miss at its end is missed here first. A pipe may have to be waited for.
        read = read => read.map_err(AttachError::from).and_then(|read| Ok(read?))?,
        () = &mut cancel => return Err(BuildError::Cancelled),
    }
    let attached = Attached::to(build, means.store)?;
    for directory in &attached.without_cache {
        observer.note(&format!("there is no cache in {directory:?} yet, so nothing is read from there"));
    }
    let id = random_id();
    let reference = random_id();
    let request = build.solve_request(&reference, &id, &attached.exports, attached.imports);
    let rest = attached.rest;
    let session = Session {
        id,
        shared_key: session::shared_key(build.source.key(), &means.node),
        directories: attached.directories,
        credentials: means.credentials,
        secrets: build.secrets.clone(),
        agents: attached.agents,
        upload: Upload::of(attached.upload),
        results: attached.results,
        layouts: attached.layouts,
    };
    let serving = tokio::select! {
        serving = serve(session, &means.endpoint, channel.clone()) => serving?,
        () = &mut cancel => return Err(BuildError::Cancelled),
    };
    let mut control = client(channel.clone());
    let run = Run { client: control.clone(), observer: &mut *observer };
    let result = if build.call.is_some() {
        run.run(&reference, super::gateway::ask(channel, control, request), &mut cancel).await
    } else {
        let solve = async move { Ok(control.solve(request).await?.into_inner().exporter_response) };
        run.run(&reference, solve, &mut cancel).await
    };
    observer.end();
    match result {
        Ok(response) => Ok((Outcome { reference, response }, rest)),
        Err(error) => {
            drop(serving);
            let ours = rest.give_up().await;
            Err(match (error, ours) {
                (BuildError::Failed(_), Some(ours)) => ours.into(),
                (error, _) => error,
            })
        }
    }
}

impl BuildError {
    /// The same, of a node of a builder that has several.
    pub fn of(self, node: &str) -> Self {
        Self::Node { node: node.to_owned(), source: Box::new(self) }
    }

    /// What went wrong, wherever it did.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Node { source, .. } => source.cause(),
            error => error,
        }
    }
}

/// A builder's word for one may be anything, and ends on a terminal or in an address.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn client(channel: Channel) -> ControlClient<Channel> {
    ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// Serves the session until what is returned is dropped. Whatever ends it before ends the solve as well, which says more about it.
async fn serve(session: Session, endpoint: &Endpoint, channel: Channel) -> Result<Serving, EndpointError> {
    let headers = session.headers();
    if let Endpoint::Instance { docker, .. } = endpoint {
        let failed = |source| EndpointError::Session { socket: docker.clone(), source };
        let stream = hijack::open(docker, headers).await.map_err(failed)?;
        let end = stream.as_fd().try_clone_to_owned().map_err(failed)?;
        drop(session.serve(stream).await);
        return Ok(Serving::Connection(end));
    }
    let (near, far) = tokio::io::duplex(tunnel::PIPE);
    drop(session.serve(near).await);
    Ok(Serving::Call(tokio::spawn(async move { drop(tunnel::carry(channel, headers, far).await) })))
}

/// A session that is served, by its stream: dropped, it ends, and everything that the builder has open of it.
enum Serving {
    /// A socket of its own.
    Connection(OwnedFd),
    /// The task that carries it.
    Call(JoinHandle<()>),
}

impl Drop for Serving {
    fn drop(&mut self) {
        match self {
            Self::Connection(socket) => drop(rustix::net::shutdown(socket, Shutdown::Both)),
            Self::Call(task) => task.abort(),
        }
    }
}

struct Run<'a, O: ?Sized> {
    client: ControlClient<Channel>,
    observer: &'a mut O,
}

impl<O: Observer + ?Sized> Run<'_, O> {
    /// Follows `solve`, the build called `reference`, to its end.
    async fn run(
        mut self,
        reference: &str,
        solve: impl Future<Output = Result<HashMap<String, String>, Status>>,
        mut cancel: impl Future<Output = ()> + Unpin,
    ) -> Result<HashMap<String, String>, BuildError> {
        let mut solve = Box::pin(solve);
        let mut watcher = self.client.clone();
        let watched = StatusRequest { r#ref: reference.to_owned() };
        let mut watch = Box::pin(async move { watcher.status(watched).await });
        let mut status = Updates::Opening;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = &mut cancel => {
                    // Dropping the call resets its stream, which is how gRPC cancels.
                    drop(solve);
                    let _ = tokio::time::timeout(CANCELLED, self.drain(status)).await;
                    return Err(BuildError::Cancelled);
                }
                _ = ticks.tick() => self.observer.tick(),
                opened = &mut watch, if matches!(status, Updates::Opening) => status = Updates::from(opened),
                update = status.next() => match update {
                    Some(update) => self.observer.update(&update),
                    None => status = Updates::Over,
                },
                result = &mut solve => {
                    if matches!(status, Updates::Opening) {
                        status = tokio::time::timeout(LAST_STATUS, watch).await.map_or(Updates::Over, Updates::from);
                    }
                    // There is nothing left to give up but to look on.
                    let is_cancelled = tokio::select! {
                        _ = tokio::time::timeout(ALL_STATUS, self.drain(status)) => false,
                        () = &mut cancel => true,
                    };
                    let error = match result {
                        Ok(response) => return Ok(response),
                        Err(status) => failed(&status),
                    };
                    // Ctrl-C at a terminal is for ssh, too, which may end before us.
                    let is_lost = matches!(error, BuildError::Lost(_));
                    if is_lost && (is_cancelled || tokio::time::timeout(SAME_MOMENT, &mut cancel).await.is_ok()) {
                        return Err(BuildError::Cancelled);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Shows what is left of the status.
    async fn drain(&mut self, mut status: Updates) {
        while let Updates::Open(updates) = &mut status {
            match tokio::time::timeout(LAST_STATUS, updates.next()).await {
                Ok(Some(Ok(update))) => self.observer.update(&update),
                _ => return,
            }
        }
    }
}

/// The status of a build: progress only, so what goes wrong with it alone ends it and nothing else.
enum Updates {
    Opening,
    Open(Box<Streaming<StatusResponse>>),
    Over,
}

impl From<Result<tonic::Response<Streaming<StatusResponse>>, Status>> for Updates {
    fn from(opened: Result<tonic::Response<Streaming<StatusResponse>>, Status>) -> Self {
        opened.map_or(Self::Over, |response| Self::Open(Box::new(response.into_inner())))
    }
}

impl Updates {
    /// The next update, `None` at the end; never, while there is no stream.
    async fn next(&mut self) -> Option<StatusResponse> {
        match self {
            Self::Open(updates) => updates.next().await.and_then(Result::ok),
            Self::Opening | Self::Over => std::future::pending().await,
        }
    }
}

fn failed(status: &Status) -> BuildError {
    if is_lost(status) {
        BuildError::Lost(super::error::root(status))
    } else {
        BuildError::Failed(Box::new(Failure::from_status(status)))
    }
}

/// Whether the connection ended rather than the build: then the error was made here, not sent by the daemon.
fn is_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || (status.details().is_empty() && matches!(status.code(), Code::Unavailable | Code::Cancelled))
}

/// 25 characters that nobody guesses, in the alphabet that BuildKit's own ids have.
pub(crate) fn random_id() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0_u8; 25];
    // The kernel's generator never fails once it is seeded, which it is long before anybody logs in.
    let _ = vmm::platform::random(&mut bytes);
    bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
        .map(|byte| char::from(*byte))
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[tokio::test]
    async fn the_session_of_an_instance_ends_with_its_build() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 101 UPGRADED\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            // An empty SETTINGS frame (RFC 9113, 6.5).
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap()
        });
        let channel = tonic::transport::Endpoint::from_static("http://nobody").connect_lazy();
        let endpoint = Endpoint::Instance { buildkit: socket.clone(), docker: socket };
        let serving = serve(Session::of(HashMap::new()), &endpoint, channel).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!daemon.is_finished(), "it is served");
        drop(serving);
        let ended = tokio::time::timeout(Duration::from_secs(60), daemon).await;
        assert!(ended.unwrap().unwrap() > 0, "the server's own settings came");
    }

    #[test]
    fn ids_differ() {
        assert_eq!(random_id().len(), 25);
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn descriptors_are_told_as_json() {
        let said = [
            ("containerimage.descriptor", STANDARD.encode(r#"{"size": 1}"#)),
            ("image.name", "docker.io/library/abcd:latest".to_owned()),
            ("number", "1234".to_owned()),
            ("containerimage.digest", DIGEST.to_owned()),
        ];
        let response = said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut outcome = Outcome { reference: "r".to_owned(), response };
        let expected = serde_json::json!({
            "containerimage.descriptor": {"size": 1},
            "containerimage.digest": DIGEST,
            "image.name": "docker.io/library/abcd:latest",
            "number": "1234",
        });
        assert_eq!(serde_json::to_value(outcome.metadata()).unwrap(), expected);
        assert_eq!(outcome.image_id(), Some(DIGEST));
        outcome.response.insert("containerimage.config.digest".to_owned(), "sha256:2".to_owned());
        assert_eq!((outcome.image_id(), outcome.digest()), (Some("sha256:2"), Some(DIGEST)));
    }

    #[test]
    fn a_daemon_s_error_is_not_a_lost_connection() {
        assert!(!is_lost(&Status::unknown("process did not complete")));
        assert!(!is_lost(&Status::with_details(
            Code::Unavailable,
            "registry: 503",
            bytes::Bytes::from_static(b"x")
        )));
        assert!(is_lost(&Status::from_error(Box::new(std::io::Error::other("broken pipe")))));
        assert!(is_lost(&Status::unavailable("tcp closed")));
    }

    #[test]
    fn what_is_no_digest_is_none() {
        for wrong in ["", "sha256:", "sha256:a", "\u{1b}[31m", &DIGEST.replace("sha256", "md5")] {
            let outcome = Outcome {
                reference: String::new(),
                response: [("containerimage.digest".to_owned(), wrong.to_owned())].into(),
            };
            assert_eq!(outcome.digest(), None, "{wrong:?}");
        }
    }
}
