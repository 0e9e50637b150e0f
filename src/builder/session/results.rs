//! `moby.filesync.v1.FileSend`: what a build hands to this host. One method and two kinds of messages: an archive comes as pieces of
//! bytes, a directory as packets of the protocol that contexts travel by.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, StdError, http};
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::by_hand::Answer;
use crate::builder::context::Packet;
use crate::builder::export::{self, Arrived, Destination, ExportError, Staged};
use crate::builder::tunnel::Piece;
use crate::chain::Chain;

/// Messages on their way to the thread that writes them.
const QUEUE: usize = 64;

/// The results that a build may hand over: for each exporter of the request, in their order, where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    destinations: Arc<Vec<Option<Destination>>>,
    staged: Arc<Staged>,
}

impl Results {
    pub(crate) fn to(destinations: Vec<Option<Destination>>) -> Self {
        Self { destinations: Arc::new(destinations), staged: Arc::default() }
    }

    /// What has arrived so far.
    pub(crate) fn staged(&self) -> Arc<Staged> {
        Arc::clone(&self.staged)
    }

    /// The place of the exporter that a request names; a daemon that knows only one names none.
    fn destination(&self, headers: &http::HeaderMap) -> Option<Destination> {
        match headers.get("buildkit-attachable-exporter-id") {
            Some(id) => self.destinations.get(id.to_str().ok()?.parse::<usize>().ok()?)?.clone(),
            None => self.destinations.iter().flatten().next().cloned(),
        }
    }
}

impl Answer for Results {
    const NAME: &'static str = "moby.filesync.v1.FileSend";

    fn answer<B>(self, request: http::Request<B>) -> BoxFuture<'static, http::Response<Body>>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let destination = self.destination(request.headers());
        let staged = Arc::clone(&self.staged);
        Box::pin(async move {
            match destination {
                None => Status::not_found("this build has no place for that result").into_http(),
                Some(Destination::Directory(place)) => {
                    let receive = |request: Request<Streaming<Packet>>| {
                        let (place, packets) = (place.clone(), queue(request.into_inner()));
                        let written = write(&staged, move |answers| {
                            export::receive_tree(&place, packets, answers).map(Some)
                        });
                        std::future::ready(Ok(Response::new(written)))
                    };
                    let mut grpc = Grpc::new(ProstCodec::<Packet, Packet>::default());
                    grpc.streaming(tower::service_fn(receive), request).await
                }
                Some(destination) => {
                    let receive = |request: Request<Streaming<Piece>>| {
                        let pieces = request.into_inner().map(|piece| piece.map(Piece::into_bytes));
                        let (destination, pieces) = (destination.clone(), queue(pieces));
                        let written =
                            write::<Piece>(&staged, move |_| export::receive_file(&destination, pieces));
                        std::future::ready(Ok(Response::new(written)))
                    };
                    let mut grpc = Grpc::new(ProstCodec::<Piece, Piece>::default());
                    grpc.streaming(tower::service_fn(receive), request).await
                }
            }
        })
    }
}

/// Writes on a thread of its own, which answers through what it gets. An error is the last answer; the answers' end says that
/// everything is there.
fn write<T: Send + 'static>(
    staged: &Arc<Staged>,
    receive: impl FnOnce(&mpsc::Sender<Result<T, Status>>) -> Result<Option<Arrived>, ExportError>
    + Send
    + 'static,
) -> ReceiverStream<Result<T, Status>> {
    let (answer, answers) = mpsc::channel(QUEUE);
    let staged = Arc::clone(staged);
    let Some(writing) = staged.writing() else { return ReceiverStream::new(answers) };
    tokio::task::spawn_blocking(move || {
        match receive(&answer) {
            Ok(arrived) => arrived.into_iter().for_each(|arrived| staged.add(arrived)),
            Err(error) => {
                drop(answer.blocking_send(Err(Status::unknown(Chain(&error).to_string()))));
                staged.fail(error);
            }
        }
        drop(writing);
    });
    ReceiverStream::new(answers)
}

/// What a stream brings, for a thread that waits for it.
fn queue<T: Send + 'static>(
    mut stream: impl Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
) -> mpsc::Receiver<Result<T, Status>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(message) = stream.next().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}
