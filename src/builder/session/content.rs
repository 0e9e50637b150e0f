//! `containerd.services.content.v1.Content`: image layouts of this host, which a build reads images and caches from and writes caches
//! and images to. The messages are those of containerd's `content.proto`; what no build asks for is left out.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use images::Layout;
use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, StdError, http};
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::by_hand::Answer;

/// A piece of a content on its way out.
const PIECE: u64 = 1024 * 1024;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The layouts of a build, by the names under which the daemon asks for them.
pub(crate) type Layouts = HashMap<String, Store>;

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) layout: Layout,
    /// The daemon may add to it.
    pub(crate) is_writable: bool,
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Contents(pub(crate) Arc<Layouts>);

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::builder) struct Asked {
    #[prost(string, tag = "1")]
    digest: String,
    /// Of a read alone.
    #[prost(int64, tag = "2")]
    offset: i64,
    /// Everything from there on, where it is 0.
    #[prost(int64, tag = "3")]
    size: i64,
}

impl Asked {
    /// All of a content.
    pub(in crate::builder) fn whole(digest: &str) -> Self {
        Self { digest: digest.to_owned(), ..Self::default() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Found {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    updated: Option<Timestamp>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::builder) struct Read {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::builder) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Action {
    /// How much is there?
    Stat = 0,
    Write = 1,
    /// It is whole.
    Commit = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(string, tag = "6")]
    digest: String,
}

impl Answer for Contents {
    const NAME: &'static str = "containerd.services.content.v1.Content";

    fn answer<B>(self, request: http::Request<B>) -> BoxFuture<'static, http::Response<Body>>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let id = request.headers().get("buildkit-attachable-store-id").and_then(|id| id.to_str().ok());
        let store = id.and_then(|id| self.0.get(id)).cloned();
        Box::pin(async move {
            let Some(store) = store else {
                return Status::not_found("this build has no such image layout").into_http();
            };
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            match method.as_str() {
                "Info" => {
                    let info = |asked: Request<Asked>| {
                        let info = store.info(&asked.into_inner().digest);
                        std::future::ready(info.map(|info| Response::new(Found { info: Some(info) })))
                    };
                    let mut grpc = Grpc::new(ProstCodec::<Found, Asked>::default());
                    grpc.unary(tower::service_fn(info), request).await
                }
                "Read" => {
                    let read = |asked: Request<Asked>| {
                        std::future::ready(store.read(&asked.into_inner()).map(Response::new))
                    };
                    let mut grpc = Grpc::new(ProstCodec::<Read, Asked>::default());
                    grpc.server_streaming(tower::service_fn(read), request).await
                }
                "Write" => {
                    let write = |pieces: Request<Streaming<Piece>>| {
                        let answers = store.clone().write(pieces.into_inner());
                        std::future::ready(answers.map(Response::new))
                    };
                    let mut grpc = Grpc::new(ProstCodec::<Taken, Piece>::default());
                    grpc.streaming(tower::service_fn(write), request).await
                }
                // What a write left is never gone on with.
                "Status" => Status::not_found("nothing of it has come").into_http(),
                other => Status::unimplemented(format!("of Content, {other} is not served")).into_http(),
            }
        })
    }
}

/// How the daemon is told of what this host failed at; it says so again.
pub(crate) const UNUSABLE: &str = "cannot use the image layout of this host: ";

fn io_status(error: &std::io::Error) -> Status {
    Status::unknown(format!("{UNUSABLE}{error}"))
}

fn parsed(digest: &str) -> Result<Digest, Status> {
    // It becomes a path, so it is looked at before; a digest in hexadecimal leads nowhere else.
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let digest = hex.and_then(|_| digest.parse().ok());
    digest.ok_or_else(|| Status::invalid_argument("an image layout has contents by sha256 only"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// A content, and its length.
    fn open(&self, digest: &str) -> Result<(File, u64), Status> {
        let file = File::open(self.layout.blob(&parsed(digest)?));
        let opened = file.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Status::not_found(format!("content {digest}: not found")),
            _ => io_status(&error),
        })
    }

    fn info(&self, digest: &str) -> Result<Info, Status> {
        let (_, size) = self.open(digest)?;
        let at = Some(Timestamp::default());
        Ok(Info { digest: digest.to_owned(), size: signed(size), created: at, updated: at })
    }

    fn read(&self, asked: &Asked) -> Result<Answers<Read>, Status> {
        let (file, length) = self.open(&asked.digest)?;
        let outside = |_| Status::out_of_range("there is nothing before the beginning");
        let begin = u64::try_from(asked.offset).map_err(outside)?.min(length);
        let size = u64::try_from(asked.size).map_err(outside)?;
        let end = if size == 0 { length } else { begin.saturating_add(size).min(length) };
        let file = Arc::new(file);
        Ok(Box::pin(futures::stream::try_unfold(begin, move |at| {
            let file = Arc::clone(&file);
            async move {
                let count = usize::try_from(end.saturating_sub(at).min(PIECE)).unwrap_or_default();
                if count == 0 {
                    return Ok(None);
                }
                let read = move || {
                    let mut data = vec![0; count];
                    file.read_exact_at(&mut data, at).map(|()| data)
                };
                let data = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?;
                let data = data.map_err(|error| io_status(&error))?;
                Ok(Some((Read { offset: signed(at), data: data.into() }, at.saturating_add(count as u64))))
            }
        })))
    }

    fn write(self, pieces: Streaming<Piece>) -> Result<Answers<Taken>, Status> {
        if !self.is_writable {
            return Err(Status::permission_denied("this image layout is read only"));
        }
        Ok(Box::pin(futures::stream::try_unfold((pieces, None), move |(mut pieces, ingest)| {
            let store = self.clone();
            async move {
                let Some(piece) = pieces.next().await else { return Ok(None) };
                let piece = piece?;
                let take = move || -> Result<_, Status> {
                    let mut ingest = match ingest {
                        Some(ingest) => ingest,
                        None => store.begin(&piece)?,
                    };
                    let taken = store.take(&mut ingest, &piece)?;
                    Ok((taken, ingest))
                };
                let taken = tokio::task::spawn_blocking(take).await;
                let (taken, ingest) = taken.map_err(|error| Status::internal(error.to_string()))??;
                Ok(Some((taken, (pieces, Some(ingest)))))
            }
        })))
    }

    /// Begins a content, unless it is there.
    fn begin(&self, piece: &Piece) -> Result<Ingest, Status> {
        if !piece.expected.is_empty() && self.open(&piece.expected).is_ok() {
            return Err(Status::already_exists(format!("content {}: already exists", piece.expected)));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".mvm-").permissions(std::fs::Permissions::from_mode(0o644));
        let file = builder.tempfile_in(self.layout.dir()).map_err(|error| io_status(&error))?;
        Ok(Ingest { file: Some(file), hash: Sha256::new(), length: 0 })
    }

    fn take(&self, ingest: &mut Ingest, piece: &Piece) -> Result<Taken, Status> {
        let action = piece.action();
        if !piece.data.is_empty() {
            ingest.append(piece)?;
        }
        let mut taken = Taken {
            action: action.into(),
            offset: signed(ingest.length),
            total: piece.total,
            digest: String::new(),
        };
        if action == Action::Commit {
            taken.digest = format!("sha256:{:x}", ingest.hash.clone().finalize());
            if !piece.expected.is_empty() && piece.expected != taken.digest {
                return Err(Status::failed_precondition(format!(
                    "what came is {}, and not {}",
                    taken.digest, piece.expected
                )));
            }
            let file =
                ingest.file.take().ok_or_else(|| Status::failed_precondition("it is whole already"))?;
            file.persist(self.layout.blob(&parsed(&taken.digest)?))
                .map_err(|error| io_status(&error.error))?;
        }
        Ok(taken)
    }
}

/// A content on its way in; dropped before its end, it is gone.
#[derive(Debug)]
struct Ingest {
    /// Until it is whole.
    file: Option<NamedTempFile>,
    hash: Sha256,
    length: u64,
}

impl Ingest {
    /// A piece follows what has come, or begins anew, as a copy that failed and is tried again does.
    fn append(&mut self, piece: &Piece) -> Result<(), Status> {
        let file = self.file.as_mut().ok_or_else(|| Status::failed_precondition("it is whole already"))?;
        if piece.offset == 0 && self.length > 0 {
            (self.hash, self.length) = (Sha256::new(), 0);
            let begun = file.as_file_mut().set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
            begun.map_err(|error| io_status(&error))?;
        }
        if piece.offset != signed(self.length) {
            return Err(Status::out_of_range(format!(
                "the next piece begins at {}, not at {}",
                self.length, piece.offset
            )));
        }
        file.write_all(&piece.data).map_err(|error| io_status(&error))?;
        self.hash.update(&piece.data);
        self.length = self.length.saturating_add(piece.data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
