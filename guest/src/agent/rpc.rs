//! The agent's RPC, as `agent.proto` has it.

use std::pin::Pin;
use std::sync::Arc;

use protocol::agent::agent_server::{Agent, AgentServer};
use protocol::agent::{
    Event, ExecInput, ExecOutput, HostPortRequest, HostPortResponse, LogLine, LogsRequest, PlatformsRequest,
    PlatformsResponse, SetClockRequest, SetClockResponse, ShutdownRequest, ShutdownResponse, UsageRequest,
    UsageResponse, WatchRequest,
};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_vsock::VsockListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::connection::incoming;
use super::host_ports::{Error as PortError, HostPorts};
use super::streams::{self, Answers};
use super::{exec, usage};
use crate::selftest;
use crate::system::System;

type Answer<T> = Result<Response<T>, Status>;
type AnswerStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
struct Service {
    system: Arc<System>,
    host_ports: HostPorts,
}

/// Serves the RPC on a listener, for ever.
pub(super) async fn serve(listener: VsockListener, system: Arc<System>) {
    let logs = system.logs.clone();
    let service = AgentServer::new(Service { system, host_ports: HostPorts::default() });
    if let Err(error) = Server::builder().serve_with_incoming(service, incoming(listener)).await {
        logs.say(format!("the agent's RPC ended: {error}"));
    }
}

fn stream<T: Send + 'static>(answers: Answers<T>) -> Answer<AnswerStream<T>> {
    Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchStream = AnswerStream<Event>;
    type LogsStream = AnswerStream<LogLine>;
    type ExecStream = AnswerStream<ExecOutput>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        stream(streams::watch(&self.system))
    }

    async fn set_clock(&self, request: Request<SetClockRequest>) -> Answer<SetClockResponse> {
        let SetClockRequest { unix_seconds, nanoseconds } = request.into_inner();
        let stepped_by_ms = crate::init::step_to(unix_seconds, nanoseconds)
            .map_err(|error| Status::invalid_argument(format!("cannot set the guest's clock: {error}")))?;
        Ok(Response::new(SetClockResponse { stepped_by_ms }))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Answer<UsageResponse> {
        let usage =
            usage::usage().map_err(|error| Status::internal(format!("cannot read the usage: {error}")))?;
        Ok(Response::new(usage))
    }

    async fn platforms(&self, request: Request<PlatformsRequest>) -> Answer<PlatformsResponse> {
        // In a task of its own: a caller who gives up leaves a test that goes on, and its result.
        let answer = tokio::spawn(selftest::ask(Arc::clone(&self.system), request.into_inner().rerun));
        let answer =
            answer.await.map_err(|error| Status::internal(format!("the self-test broke off: {error}")))?;
        Ok(Response::new(answer))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        stream(streams::logs(&self.system, request.into_inner()))
    }

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Answer<Self::ExecStream> {
        stream(exec::start(&self.system, request.into_inner()).await?)
    }

    async fn open_host_port(&self, request: Request<HostPortRequest>) -> Answer<HostPortResponse> {
        self.host_ports.open(request.into_inner().port).await.map_err(port_status)?;
        Ok(Response::new(HostPortResponse {}))
    }

    async fn close_host_port(&self, request: Request<HostPortRequest>) -> Answer<HostPortResponse> {
        self.host_ports.close(request.into_inner().port).map_err(port_status)?;
        Ok(Response::new(HostPortResponse {}))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        self.system.stop.notify_one();
        Ok(Response::new(ShutdownResponse {}))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands errors over")]
fn port_status(error: PortError) -> Status {
    match error {
        PortError::NotAPort(_) => Status::invalid_argument(error.to_string()),
        PortError::Listen { .. } => Status::already_exists(error.to_string()),
    }
}
