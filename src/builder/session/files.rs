//! `moby.filesync.v1.FileSync`: hands the daemon the directories of a build, and no others.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, StdError, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::by_hand::Answer;
use crate::builder::context::{self, Packet, Selection};
use crate::chain::Chain;

/// Packets on their way, those that are sent together counted as one: at most 48 KiB each.
const QUEUE: usize = 8;

/// The directories that a build may read, by the names that the daemon's frontend uses (`context`, `dockerfile`, and those that the user gave).
pub(crate) type Directories = HashMap<String, Arc<Path>>;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Files(pub(crate) Arc<Directories>);

impl Answer for Files {
    const NAME: &'static str = "moby.filesync.v1.FileSync";

    fn answer<B>(self, request: http::Request<B>) -> BoxFuture<'static, http::Response<Body>>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        Box::pin(async move {
            if !request.uri().path().eq_ignore_ascii_case("/moby.filesync.v1.FileSync/DiffCopy") {
                return Status::unimplemented("of FileSync only DiffCopy is served").into_http();
            }
            Grpc::new(ProstCodec::<Packet, Packet>::default()).streaming(self, request).await
        })
    }
}

impl StreamingService<Packet> for Files {
    type Response = Packet;
    type ResponseStream = BoxStream<'static, Result<Packet, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let name = values(request.metadata(), "dir-name").into_iter().next().unwrap_or_default();
        let name = String::from_utf8_lossy(&name).into_owned();
        let directory = self.0.get(name.as_str()).cloned();
        Box::pin(async move {
            let directory = directory
                .ok_or_else(|| Status::not_found(format!("this build has no directory {name:?}")))?;
            let selection = Selection {
                include: values(request.metadata(), "include-patterns"),
                exclude: values(request.metadata(), "exclude-patterns"),
                follow: values(request.metadata(), "followpaths"),
            };
            let (outbound, packets) = mpsc::channel(QUEUE);
            tokio::spawn(async move {
                let sent = context::send(directory, selection, request.into_inner(), outbound.clone()).await;
                if let Err(error) = sent {
                    let status = Status::unknown(Chain(&error).to_string());
                    let _ = outbound.send(vec![Err(status)]).await;
                }
            });
            Ok(Response::new(ReceiverStream::new(packets).flat_map(futures::stream::iter).boxed()))
        })
    }
}

/// The values of a key; where one of them is not ASCII, all are escaped as in a URL's query, and `KEY-encoded` says so.
fn values(metadata: &MetadataMap, key: &str) -> Vec<Vec<u8>> {
    let encoded = metadata.get(format!("{key}-encoded")).is_some_and(|value| value == "1" || value == "true");
    let values = metadata.get_all(key).into_iter().map(tonic::metadata::MetadataValue::as_encoded_bytes);
    values.map(|value| if encoded { unescape(value) } else { value.to_vec() }).collect()
}

/// Undoes the escapes of a URL's query; a `%` that escapes nothing stays.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'+' => plain.push(b' '),
            b'%' => {
                let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        plain.push(byte);
                        rest = more.get(2..).unwrap_or_default();
                    }
                    None => plain.push(b'%'),
                }
            }
            other => plain.push(*other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_come_in_metadata() {
        let mut metadata = MetadataMap::new();
        for (key, value) in [
            ("exclude-patterns", "a%20b"),
            ("exclude-patterns", "!c+d"),
            ("followpaths", "caf%C3%A9+x"),
            ("followpaths", "%zz%"),
            ("followpaths-encoded", "1"),
        ] {
            metadata.append(key, value.parse().unwrap());
        }
        let excluded = values(&metadata, "exclude-patterns");
        assert_eq!(excluded, [b"a%20b".to_vec(), b"!c+d".to_vec()], "not encoded, so as they are");
        assert_eq!(values(&metadata, "followpaths"), ["café x".as_bytes().to_vec(), b"%zz%".to_vec()]);
        assert!(values(&metadata, "include-patterns").is_empty());
    }
}
