//! Client of the guest's agent (guest/protocol/proto/agent.proto).

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use protocol::agent::agent_client::AgentClient;
use protocol::agent::{
    Event, ExecInput, ExecOutput, HostPortRequest, LogLine, LogsRequest, Platform, PlatformsRequest,
    SetClockRequest, ShutdownRequest, UsageRequest, UsageResponse, WatchRequest,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};
use tower::service_fn;

/// The agent of one running guest. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Agent {
    client: AgentClient<Channel>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no virtual machine runs: {} does not answer; `mvm up` starts it", .0.display())]
    NotRunning(PathBuf),
    #[error(
        "the connection to the guest's agent was lost; `mvm status` says what became of the virtual machine"
    )]
    Lost(Box<Status>),
    #[error("the guest's agent refused to {asked}: {}", .status.message())]
    Refused { asked: &'static str, status: Box<Status> },
}

impl Error {
    /// Whether there is no virtual machine to talk to (any more).
    pub fn is_no_machine(&self) -> bool {
        matches!(self, Self::NotRunning(_) | Self::Lost(_))
    }

    /// Somebody in the guest has what was asked for.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::AlreadyExists)
    }

    /// What a status says that came instead of an answer to this request.
    pub fn of(asked: &'static str) -> impl Fn(Status) -> Self {
        move |status| match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled => Self::Lost(Box::new(status)),
            _ => Self::Refused { asked, status: Box::new(status) },
        }
    }
}

impl Agent {
    /// Through `agent.sock`, which exists while the instance is ready.
    pub async fn at(socket: &Path) -> Result<Self, Error> {
        let path = socket.to_owned();
        // Once without HTTP/2, to tell "nobody is there" from a connection that breaks later.
        UnixStream::connect(&path).await.map_err(|_| Error::NotRunning(path.clone()))?;
        Ok(Self::over(move || UnixStream::connect(path.clone())))
    }

    /// Over whatever streams `connect` makes: one at first use, another when one was lost.
    pub fn over<F, C>(connect: C) -> Self
    where
        C: Fn() -> F + Send + 'static,
        F: Future<Output = io::Result<UnixStream>> + Send + 'static,
    {
        Self { client: AgentClient::new(http2(connect)) }
    }

    /// What has happened since the guest's start, and then what happens.
    pub async fn watch(&self) -> Result<Streaming<Event>, Error> {
        let answer =
            self.client.clone().watch(WatchRequest {}).await.map_err(Error::of("tell its events"))?;
        Ok(answer.into_inner())
    }

    /// Sets the guest's clock to this host's; returns by how many milliseconds it moved. Not for a first call, which waits for the
    /// guest to listen: the moment would be past by then.
    pub async fn set_clock(&self) -> Result<i64, Error> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let request = SetClockRequest {
            unix_seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: now.subsec_nanos(),
        };
        let answer = self.client.clone().set_clock(request).await.map_err(Error::of("set its clock"))?;
        Ok(answer.into_inner().stepped_by_ms)
    }

    pub async fn usage(&self) -> Result<UsageResponse, Error> {
        let answer = self.client.clone().usage(UsageRequest {}).await.map_err(Error::of("tell its usage"))?;
        Ok(answer.into_inner())
    }

    /// Which platforms really execute; waits for the self-test of the boot.
    pub async fn platforms(&self, rerun: bool) -> Result<Vec<Platform>, Error> {
        let request = PlatformsRequest { rerun };
        let answer = self.client.clone().platforms(request).await.map_err(Error::of("test the platforms"))?;
        Ok(answer.into_inner().platforms)
    }

    /// What was printed; of every source when `source` is empty.
    pub async fn logs(&self, source: &str, follow: bool) -> Result<Streaming<LogLine>, Error> {
        let request = LogsRequest { source: source.to_owned(), follow };
        let answer = self.client.clone().logs(request).await.map_err(Error::of("show its logs"))?;
        Ok(answer.into_inner())
    }

    pub async fn exec(
        &self,
        input: impl futures::Stream<Item = ExecInput> + Send + 'static,
    ) -> Result<Streaming<ExecOutput>, Error> {
        let answer = self.client.clone().exec(input).await.map_err(Error::of("run the program"))?;
        Ok(answer.into_inner())
    }

    /// Makes the guest's 127.0.0.1:`port` lead to the host's.
    pub async fn open_host_port(&self, port: u16) -> Result<(), Error> {
        let request = HostPortRequest { port: u32::from(port) };
        self.client.clone().open_host_port(request).await.map_err(Error::of("open a port of the host"))?;
        Ok(())
    }

    pub async fn close_host_port(&self, port: u16) -> Result<(), Error> {
        let request = HostPortRequest { port: u32::from(port) };
        self.client.clone().close_host_port(request).await.map_err(Error::of("close a port of the host"))?;
        Ok(())
    }

    /// Asks for an orderly power-off, which begins after the answer.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.client.clone().shutdown(ShutdownRequest {}).await.map_err(Error::of("shut down"))?;
        Ok(())
    }
}

/// An HTTP/2 channel over streams that `connect` makes.
pub(crate) fn http2<F, C>(connect: C) -> Channel
where
    C: Fn() -> F + Send + 'static,
    F: Future<Output = io::Result<UnixStream>> + Send + 'static,
{
    // The name goes into the `:authority` of requests and leads nowhere.
    Endpoint::from_static("http://guest").connect_with_connector_lazy(service_fn(move |_: Uri| {
        let stream = connect();
        async move { stream.await.map(TokioIo::new) }
    }))
}

#[cfg(test)]
mod tests {
    use super::Agent;

    #[tokio::test]
    async fn without_a_socket_the_message_names_it_and_the_remedy() {
        let error = Agent::at(std::path::Path::new("/nowhere/agent.sock")).await.unwrap_err();
        assert!(error.is_no_machine());
        assert_eq!(
            error.to_string(),
            "no virtual machine runs: /nowhere/agent.sock does not answer; `mvm up` starts it"
        );
    }

    #[tokio::test]
    async fn stream_that_ends_is_a_lost_connection() {
        let agent = Agent::over(|| async { tokio::net::UnixStream::pair().map(|(ours, _)| ours) });
        let error = agent.usage().await.unwrap_err();
        assert!(error.is_no_machine(), "{error:?}");
        assert!(error.to_string().starts_with("the connection to the guest's agent was lost"));
    }
}
