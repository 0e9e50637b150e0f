//! A build session: an HTTP/2 server of ours inside a stream that we open, through which the daemon asks for what
//! only the host has. BuildKit's `session` package defines it.
//!
//! Each service is a file here: `files` and `upload` (contexts), `auth` (registries), `secrets`, `ssh`, `results` (what comes
//! back), `content` (image layouts), `health`. [`METHODS`] is where they are named and [`Session::serve`] where they join.

mod auth;
mod by_hand;
pub(super) mod content;
mod files;
mod health;
mod results;
mod secrets;
mod ssh;
mod upload;

use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use bollard_buildkit_proto::moby::upload::v1::upload_server::UploadServer;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::request::Secret;
use crate::registry::credentials::Credentials;

pub(super) use content::{Layouts, Store as LayoutStore, UNUSABLE};
pub(super) use files::Directories;
pub(super) use results::Results;
pub(super) use ssh::{Agent, Agents};
pub(super) use upload::{Reader, Upload};

use by_hand::ByHand;
use content::Contents;
use files::Files;

/// What a call may send before it is read. h2 counts 256 bytes for each of its smaller messages, and ends the connection where
/// they come to half the window of the whole: one call alone never gets there, even with the nine bytes of a request for a file.
const CALL_WINDOW: u32 = 1024 * 1024;
const SESSION_WINDOW: u32 = 64 * CALL_WINDOW;

/// What the session serves, as `/service/method`. The daemon does not ask for what is not named here.
const METHODS: [&str; 15] = [
    "/grpc.health.v1.Health/Check",
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.content.v1.Content/Status",
    "/containerd.services.content.v1.Content/Write",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
    "/moby.upload.v1.Upload/Pull",
];

/// What a build lets the daemon have.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) shared_key: String,
    pub(crate) directories: Directories,
    pub(crate) credentials: Credentials,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) agents: Agents,
    pub(crate) upload: Upload,
    pub(crate) results: Results,
    pub(crate) layouts: Layouts,
}

impl Session {
    /// The headers by which the daemon knows the session.
    pub(crate) fn headers(&self) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for (key, value) in [
            ("x-docker-expose-session-uuid", self.id.as_str()),
            ("x-docker-expose-session-name", "mvm"),
            ("x-docker-expose-session-sharedkey", self.shared_key.as_str()),
        ] {
            // All three are ASCII by construction.
            if let Ok(value) = MetadataValue::<Ascii>::try_from(value) {
                headers.insert(key, value);
            }
        }
        for method in METHODS {
            headers.append("x-docker-expose-session-grpc-method", MetadataValue::from_static(method));
        }
        headers
    }

    /// Serves until the other end of `stream` is gone, in tasks of its own.
    pub(crate) async fn serve<S>(self, stream: S) -> Result<(), tonic::transport::Error>
    where
        S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        // One connection and none after it, so that the server is done at once, and a task of the connection's goes on.
        let connection = futures::stream::iter([Ok::<_, std::io::Error>(stream)]);
        Server::builder()
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(SESSION_WINDOW)
            .add_service(HealthServer::new(health::Alive))
            .add_service(ByHand(Files(Arc::new(self.directories))))
            .add_service(AuthServer::new(auth::Keys(self.credentials)))
            .add_service(SecretsServer::new(secrets::Given(self.secrets)))
            .add_service(SshServer::new(self.agents))
            .add_service(UploadServer::new(self.upload))
            .add_service(ByHand(self.results))
            .add_service(ByHand(Contents(Arc::new(self.layouts))))
            .serve_with_incoming(connection)
            .await
    }
}

/// The key of a directory on a machine, the same for every build of it: the daemon keeps what it got under this key,
/// and next time asks for what changed only. A hash, so that no path leaves the host and none is too odd for a
/// header; the last name stays readable where it can, for whoever looks at the daemon's disk usage.
pub(crate) fn shared_key(context: &Path, node: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(context.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(node);
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let readable = |character: &char| character.is_ascii_alphanumeric() || "._-".contains(*character);
    let name = context.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name.chars().filter(readable).take(40).collect();
    format!("{name}:{digest}")
}

#[cfg(test)]
impl Session {
    /// One that serves these directories and nothing else.
    pub(crate) fn of(directories: Directories) -> Self {
        Self {
            id: "the-id".to_owned(),
            shared_key: "key".to_owned(),
            directories,
            credentials: Credentials::none(),
            secrets: Vec::new(),
            agents: Agents::default(),
            upload: Upload::of(None),
            results: Results::to(Vec::new()),
            layouts: Layouts::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use bollard_buildkit_proto::fsutil::types::Packet;
    use bollard_buildkit_proto::fsutil::types::packet::PacketType;
    use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
    use futures::StreamExt;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::transport::{Channel, Endpoint};

    use super::*;

    #[test]
    fn one_directory_on_one_machine_has_one_key() {
        let key = shared_key(Path::new("/home/me/pröject x"), "node");
        assert_eq!(key, shared_key(Path::new("/home/me/pröject x"), "node"));
        assert_ne!(key, shared_key(Path::new("/home/you/pröject x"), "node"));
        assert_ne!(key, shared_key(Path::new("/home/me/pröject x"), "other"));
        assert!(key.starts_with("prjectx:") && key.is_ascii(), "{key}");
    }

    #[test]
    fn the_headers_name_the_session_and_every_method() {
        let headers = Session::of(Directories::new()).headers();
        assert_eq!(headers.get("x-docker-expose-session-uuid").unwrap(), "the-id");
        assert_eq!(headers.get("x-docker-expose-session-sharedkey").unwrap(), "key");
        assert_eq!(headers.get_all("x-docker-expose-session-grpc-method").iter().count(), METHODS.len());
    }

    /// A client of this session, as the daemon is one.
    async fn daemon(session: Session) -> Channel {
        let (near, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(session.serve(near));
        let mut far = Some(far);
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let far = far.take().map(hyper_util::rt::TokioIo::new);
            async move { far.ok_or_else(|| std::io::Error::other("there is one connection only")) }
        });
        let endpoint = Endpoint::from_static("http://session").initial_stream_window_size(65_535);
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    /// More small messages than h2 holds of a connection before it takes them for an attack.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_may_ask_for_very_many_files_before_it_reads_one() {
        const FILES: u32 = 20_000;
        let tree = tempfile::tempdir().unwrap();
        for number in 0..FILES {
            std::fs::write(tree.path().join(number.to_string()), "x").unwrap();
        }
        let channel =
            daemon(Session::of([("context".to_owned(), Arc::from(tree.path()))].into_iter().collect())).await;
        let (ask, asked) = tokio::sync::mpsc::unbounded_channel::<Packet>();
        let gone = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&gone);
        let asked = UnboundedReceiverStream::new(asked).then(move |packet| {
            count.fetch_add(1, Ordering::Relaxed);
            // So that each is in a frame of its own.
            async {
                tokio::task::yield_now().await;
                packet
            }
        });
        let mut request = tonic::Request::new(asked);
        request.metadata_mut().insert("dir-name", "context".parse().unwrap());
        let packets = FileSyncClient::new(channel).diff_copy(request).await.unwrap();
        let mut packets = packets.into_inner();
        let mut told = 0;
        while packets.message().await.unwrap().unwrap().stat.is_some() {
            told += 1;
        }
        assert_eq!(told, FILES);
        let kind = |kind: PacketType| Packet { r#type: kind.into(), ..Packet::default() };
        for id in 0..FILES {
            ask.send(Packet { id, ..kind(PacketType::PacketReq) }).unwrap();
        }
        let begun = Instant::now();
        while gone.load(Ordering::Relaxed) < FILES {
            assert!(begun.elapsed() < Duration::from_secs(120), "the session took {gone:?} of {FILES}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut whole = 0;
        while whole < FILES {
            let packet = packets.message().await.unwrap().unwrap();
            assert_eq!(packet.r#type(), PacketType::PacketData, "{packet:?}");
            whole += u32::from(packet.data.is_empty());
        }
        ask.send(kind(PacketType::PacketFin)).unwrap();
        assert_eq!(packets.message().await.unwrap().unwrap().r#type(), PacketType::PacketFin);
    }
}
