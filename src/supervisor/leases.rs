//! Ports of the host's loopback that are open for the guest as long as somebody wants them.

use std::sync::{Arc, Mutex, PoisonError};

use super::host_ports::HostPorts;
use crate::agent::{self, Agent};

/// Opens ports on both sides: the allow-list here, and the listener in the guest.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    pub ports: HostPorts,
    /// The agent of the machine that runs now.
    agent: Arc<Mutex<Option<Agent>>>,
    /// Held while something changes, so that the guest hears of it in the same order: a port that one build closes and the next one
    /// opens is free by then, and stays open.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no virtual machine runs that could be given a port of the host")]
    NoMachine,
    #[error("cannot open port {port} of the host for the guest: {source}")]
    Guest { port: u16, source: agent::Error },
}

impl Error {
    /// Somebody in the guest has the port.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Guest { source, .. } if source.is_taken())
    }
}

/// Some open ports; they stay open until [`Lease::close`].
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    ports: Vec<u16>,
}

impl Leases {
    /// From now on this is the guest; its listeners for every open port are made.
    pub(super) async fn attach(&self, agent: Agent) {
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent.clone());
        for port in self.ports.all() {
            if let Err(error) = agent.open_host_port(port).await {
                tracing::warn!(%error, port, "the guest cannot listen for a port of the host");
            }
        }
    }

    /// There is no guest any more.
    pub(super) fn detach(&self) {
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn agent(&self) -> Option<Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens all of them or none.
    pub(super) async fn open(&self, ports: Vec<u16>) -> Result<Lease, Error> {
        let agent = self.agent().ok_or(Error::NoMachine)?;
        let mut lease = Lease { leases: self.clone(), ports: Vec::new() };
        let turn = self.turn.lock().await;
        for port in ports {
            lease.ports.push(port);
            if self.ports.open(port)
                && let Err(source) = agent.open_host_port(port).await
            {
                drop(turn);
                lease.close().await;
                return Err(Error::Guest { port, source });
            }
        }
        Ok(lease)
    }
}

impl Lease {
    /// Closes those that nobody else holds.
    pub(super) async fn close(self) {
        let _turn = self.leases.turn.lock().await;
        for port in self.ports {
            if self.leases.ports.close(port)
                && let Some(agent) = self.leases.agent()
                && let Err(error) = agent.close_host_port(port).await
            {
                tracing::debug!(%error, port, "the guest did not close a port of the host");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use http_body_util::{BodyExt, Full};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tonic::body::Body;
    use tonic::codegen::{Service, http};
    use tonic::server::NamedService;
    use tonic::transport::Server;

    use super::Leases;
    use crate::agent::Agent;

    /// A guest that takes its time to close a port, and says what it has done.
    #[derive(Debug, Clone)]
    struct Slow(mpsc::UnboundedSender<String>);

    impl NamedService for Slow {
        const NAME: &'static str = "mvm.agent.v1.Agent";
    }

    impl Service<http::Request<Body>> for Slow {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let done = self.0.clone();
            Box::pin(async move {
                let asked = request.uri().path().rsplit('/').next().unwrap().to_owned();
                if asked == "CloseHostPort" {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done.send(asked).unwrap();
                // One message, which is empty.
                let message = Full::new(Bytes::from_static(&[0; 5]));
                let trailers = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let body = message.with_trailers(async { Some(Ok(trailers)) });
                Ok(http::Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(body))
                    .unwrap())
            })
        }
    }

    #[tokio::test]
    async fn a_port_that_is_closed_is_free_before_the_next_opens_it() {
        let (done, mut told) = mpsc::unbounded_channel();
        let guest = Agent::over(move || {
            let done = done.clone();
            async move {
                let (ours, theirs) = UnixStream::pair()?;
                let connection = futures::stream::iter([Ok::<_, std::io::Error>(theirs)]);
                tokio::spawn(Server::builder().add_service(Slow(done)).serve_with_incoming(connection));
                Ok(ours)
            }
        });
        let leases = Leases::default();
        leases.attach(guest).await;
        let first = leases.open(vec![5000]).await.unwrap();
        let ((), second) = tokio::join!(first.close(), leases.open(vec![5000]));
        let heard: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(heard, ["OpenHostPort", "CloseHostPort", "OpenHostPort"]);
        second.unwrap().close().await;
    }

    #[tokio::test]
    async fn refused_without_a_machine() {
        let error = Leases::default().open(vec![5000]).await.unwrap_err();
        assert_eq!(error.to_string(), "no virtual machine runs that could be given a port of the host");
    }

    #[tokio::test]
    async fn port_that_the_guest_refuses_is_closed_again() {
        let leases = Leases::default();
        let gone = Agent::over(|| async { Err(std::io::Error::other("gone")) });
        leases.attach(gone).await;
        let error = leases.open(vec![5000]).await.unwrap_err();
        assert!(
            error.to_string().starts_with("cannot open port 5000 of the host for the guest: "),
            "{error}"
        );
        assert!(leases.ports.all().is_empty());
    }
}
