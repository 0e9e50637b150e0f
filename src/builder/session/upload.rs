//! `moby.upload.v1.Upload`: a context that is one stream, as `tar | mvm build -` has it. The daemon fetches it from an address that
//! means this session.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::Upload as UploadService;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tonic::{Request, Response, Status, Streaming};

const PIECE: usize = 32 * 1024;
/// The path of the one stream that a build can have.
const PATH: &str = "context";

/// A stream that is read once.
pub(crate) type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// What is handed out, until it is.
#[derive(Default)]
pub(crate) struct Upload(Mutex<Option<Reader>>);

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl Upload {
    /// How the daemon has to ask for it.
    pub(crate) const URL: &str = "http://buildkit-session/context";

    pub(crate) fn of(reader: Option<Reader>) -> Self {
        Self(Mutex::new(reader))
    }
}

#[tonic::async_trait]
impl UploadService for Upload {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get("urlpath").and_then(|path| path.to_str().ok()).unwrap_or_default();
        if path.trim_start_matches('/') != PATH {
            return Err(Status::not_found(format!("this build uploads nothing called {path:?}")));
        }
        let reader = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = reader.ok_or_else(|| Status::not_found("the context's stream has been read already"))?;
        let pieces = futures::stream::try_unfold(reader, |mut reader| async move {
            let mut data = Vec::with_capacity(PIECE);
            match reader.read_buf(&mut data).await {
                Ok(0) => Ok(None),
                Ok(_) => Ok(Some((BytesMessage { data }, reader))),
                Err(error) => {
                    Err(Status::aborted(format!("cannot read the context from standard input: {error}")))
                }
            }
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}
