//! The stream that carries a session to any BuildKit: pieces of bytes in an RPC (`Control.Session`), joined to a pipe in memory.
//!
//! The message is our own so that pieces are not copied (its schema: BuildKit's `control.proto`, `BytesMessage`).

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// What is on its way in one direction. Measured: a MiB is no faster, and 64 KiB were slower while small packets went one by one.
pub(crate) const PIPE: usize = 128 * 1024;
/// A piece: with what is around it, four full frames of HTTP/2.
const PIECE: usize = 64 * 1024 - 64;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Piece {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl Piece {
    pub(crate) fn into_bytes(self) -> Bytes {
        self.data
    }
}

/// Opens the session's stream with `headers` and carries it until either side ends it.
pub(crate) async fn carry(channel: Channel, headers: MetadataMap, pipe: DuplexStream) -> Result<(), Status> {
    let (from_server, to_server) = tokio::io::split(pipe);
    let mut request = Request::new(pieces(from_server));
    *request.metadata_mut() = headers;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Session");
    let response = client.streaming(request, path, ProstCodec::<Piece, Piece>::default()).await?;
    deliver(response.into_inner(), to_server).await
}

/// What the session's server writes.
fn pieces(reader: ReadHalf<DuplexStream>) -> impl Stream<Item = Piece> + Send + 'static {
    futures::stream::unfold(reader, |mut reader| async move {
        let mut data = BytesMut::with_capacity(PIECE);
        match reader.read_buf(&mut data).await {
            Ok(length) if length > 0 => Some((Piece { data: data.freeze() }, reader)),
            _ => None,
        }
    })
}

/// What the daemon sends, to the session's server.
async fn deliver(mut pieces: Streaming<Piece>, mut writer: WriteHalf<DuplexStream>) -> Result<(), Status> {
    while let Some(piece) = pieces.next().await {
        if writer.write_all(&piece?.data).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
    Ok(())
}
