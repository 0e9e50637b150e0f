//! The last stage of a start: one real call to BuildKit.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use protocol::ports;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use vmm::control::{MachineSender, ToMachine};

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the guest says that its builder is ready, but BuildKit does not answer: {0}")]
    Answer(Box<tonic::Status>),
    #[error("the guest says that its builder is ready, but BuildKit's channel cannot be made: {0}")]
    Channel(#[from] tonic::transport::Error),
    #[error("the guest says that its builder is ready, but BuildKit did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Returns when BuildKit has answered `Info` (BuildKit's control.proto).
pub(super) async fn builder_answers(machine: &MachineSender) -> Result<(), Error> {
    tokio::time::timeout(TIMEOUT, info(machine)).await.map_err(|_| Error::Timeout)?
}

async fn info(machine: &MachineSender) -> Result<(), Error> {
    let machine = machine.clone();
    let channel = crate::agent::http2(move || connect(machine.clone(), ports::BUILDKIT));
    let mut client = Grpc::new(channel);
    client.ready().await?;
    // `InfoRequest` has no fields, and of the answer only its arrival counts: `()` is the empty message.
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Info");
    client
        .unary(tonic::Request::new(()), path, codec)
        .await
        .map_err(|status| Error::Answer(Box::new(status)))?;
    Ok(())
}

/// A new stream to a port of the guest.
pub(super) async fn connect(machine: MachineSender, guest_port: u32) -> io::Result<UnixStream> {
    let (ours, machines) = std::os::unix::net::UnixStream::pair()?;
    let message = ToMachine::Connect { guest_port, preamble: Vec::new() };
    machine.send(&message, Some(OwnedFd::from(machines))).await.map_err(io::Error::other)?;
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}
