//! What a client does before the builder hears of the first file: from its start to its first STAT. The builder is one that asks at
//! once, so that nothing but the client is measured. buildx does not take such a builder for one.

use std::fmt;
use std::pin::Pin;
use std::process::Command;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::{Control, ControlServer};
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::report::Figure;
use crate::support::{MVM, context};

const RUNS: usize = 21;
const PIPE: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A builder that asks for the context as soon as there is a session, and tells when the first STAT has come.
struct Curious {
    seen: mpsc::UnboundedSender<Instant>,
}

impl fmt::Debug for Curious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Curious").finish_non_exhaustive()
    }
}

/// The session's own gRPC runs in the pieces of bytes of the outer one.
fn carry(mut pieces: Streaming<BytesMessage>) -> (DuplexStream, Answers<BytesMessage>) {
    let (near, far) = tokio::io::duplex(PIPE);
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(piece)) = pieces.next().await {
            if writer.write_all(&piece.data).await.is_err() {
                return;
            }
        }
    });
    let answers = async_stream(async move |answer: mpsc::Sender<Result<BytesMessage, Status>>| {
        let mut buffer = vec![0; PIPE];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            if answer.send(Ok(BytesMessage { data: buffer[..count].to_vec() })).await.is_err() {
                return;
            }
        }
    });
    (near, answers)
}

fn async_stream<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    fill: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F,
) -> Answers<T> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(fill(sender));
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// When the first STAT of the context comes.
async fn first_stat(session: DuplexStream) -> Result<Instant, Box<dyn std::error::Error + Send + Sync>> {
    let mut session = Some(session);
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let session = session.take().map(TokioIo::new);
        async move { session.ok_or_else(|| std::io::Error::other("there is one session only")) }
    });
    let channel: Channel = Endpoint::from_static("http://session").connect_with_connector(connector).await?;
    let mut request = Request::new(tokio_stream::pending::<Packet>());
    request.metadata_mut().insert("dir-name", "context".parse()?);
    let mut packets = FileSyncClient::new(channel).diff_copy(request).await?.into_inner();
    while let Some(packet) = packets.message().await? {
        if packet.r#type() == PacketType::PacketStat {
            return Ok(Instant::now());
        }
    }
    Err("the client has no files".into())
}

#[tonic::async_trait]
impl Control for Curious {
    type PruneStream = Answers<UsageRecord>;
    type StatusStream = Answers<StatusResponse>;
    type SessionStream = Answers<BytesMessage>;
    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (session, answers) = carry(request.into_inner());
        let seen = self.seen.clone();
        tokio::spawn(async move {
            if let Ok(at) = first_stat(session).await {
                let _ = seen.send(at);
            }
        });
        Ok(Response::new(answers))
    }

    /// Never ends: the client is ended before.
    async fn solve(&self, _: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        std::future::pending().await
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse::default()))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse::default()))
    }

    async fn disk_usage(&self, _: Request<DiskUsageRequest>) -> Result<Response<DiskUsageResponse>, Status> {
        Err(Status::unimplemented("it only asks"))
    }

    async fn prune(&self, _: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        Err(Status::unimplemented("it only asks"))
    }

    async fn listen_build_history(
        &self,
        _: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Err(Status::unimplemented("it only asks"))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Err(Status::unimplemented("it only asks"))
    }
}

pub(crate) fn measure() -> Vec<Figure> {
    let directory = context(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("file", "content\n")]);
    let home = tempfile::tempdir().expect("a directory for the clients");
    let socket = home.path().join("builder.sock");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (seen, mut sightings) = mpsc::unbounded_channel();
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(&socket).expect("a socket for the builder")
    };
    let server = Server::builder().add_service(ControlServer::new(Curious { seen }));
    runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let endpoint = format!("unix://{}", socket.display());

    let mut milliseconds = || {
        let mut command = Command::new(MVM);
        command.arg("build").args(["--progress", "quiet", "--tag", "demo:latest"]).arg(directory.path());
        command.env("BUILDKIT_HOST", &endpoint).env("XDG_STATE_HOME", home.path());
        command.env_remove("MVM_INSTANCE").env_remove("MVM_BUILDER");
        while sightings.try_recv().is_ok() {}
        let begin = Instant::now();
        let mut running = crate::support::start(&mut command);
        let at = runtime.block_on(async { tokio::time::timeout(PATIENCE, sightings.recv()).await });
        let Ok(Some(at)) = at else {
            let how = if running.is_running() { "it runs".to_owned() } else { running.outcome().to_string() };
            panic!("no STAT of the client within a minute: {how}")
        };
        // Dropped, it is killed.
        drop(running);
        at.duration_since(begin).as_secs_f64() * 1000.0
    };
    milliseconds();
    let ours: Vec<_> = (0..RUNS).map(|_| milliseconds()).collect();
    vec![Figure::new("cli-overhead", "ms", &ours)]
}
