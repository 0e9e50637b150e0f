//! Published container ports on the host's 127.0.0.1.
//!
//! In the guest dockerd publishes a port on the guest's own addresses; here a listener on the same port of the host's
//! loopback leads each connection through vsock to the guest's loopback.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerSummary, PortSummaryTypeEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures::StreamExt;
use protocol::ports::TUNNEL;
use rustix::net::{Shutdown, shutdown};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::AbortHandle;
use vmm::control::{MachineSender, ToMachine};

use super::board::Board;
use super::protocol::PublishedPort;

const EVENTS_TIMEOUT_S: u64 = 120;
/// Between two tries to reach dockerd, which may be starting again.
const RETRY: Duration = Duration::from_millis(500);
/// When it is looked again though nothing has happened: once, as events are told from some moment after they were asked for; and
/// as long as somebody else has a port of this host's.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Follows the containers of one machine. Dropping it closes every port.
#[derive(Debug)]
struct Published {
    machine: MachineSender,
    ports: BTreeMap<u16, Result<Listening, String>>,
}

/// Ends when it is dropped, and on Linux its port is free then for all who bind as servers do (SO_REUSEADDR).
#[derive(Debug)]
struct Listening {
    listener: Arc<TcpListener>,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // The task drops its own later, and a process that is just being started has a copy until its exec: this ends them all.
        let _ = shutdown(&self.listener, Shutdown::Read);
    }
}

/// Runs until it is dropped: dockerd may end and come back meanwhile, and its containers with it.
pub(super) async fn follow(docker_socket: &Path, machine: MachineSender, board: Arc<Board>) {
    let mut published = Published { machine, ports: BTreeMap::new() };
    loop {
        if let Err(error) = published.follow(docker_socket, &board).await {
            tracing::debug!(%error, "dockerd does not tell its containers");
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Published {
    /// Runs until dockerd ends.
    async fn follow(&mut self, socket: &Path, board: &Board) -> Result<(), bollard::errors::Error> {
        let socket = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&socket, EVENTS_TIMEOUT_S, bollard::API_DEFAULT_VERSION)?;
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), ["start", "die", "pause", "unpause", "destroy"].map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let mut events = docker.events(Some(options));
        let mut is_first = true;
        loop {
            let running = docker.list_containers(None::<ListContainersOptions>).await?;
            if self.reconcile(&published_ports(&running)).await {
                board.set_published(self.list());
            }
            let looks_again = std::mem::take(&mut is_first) || self.ports.values().any(Result::is_err);
            let patience = if looks_again { LOOK_AGAIN } else { Duration::MAX };
            match tokio::time::timeout(patience, events.next()).await {
                Ok(Some(event)) => drop(event?),
                Ok(None) => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// Opens and closes listeners so that exactly these ports are published; returns whether something changed.
    async fn reconcile(&mut self, wanted: &BTreeSet<u16>) -> bool {
        let before = self.ports.len();
        self.ports.retain(|port, _| wanted.contains(port));
        let mut changed = before != self.ports.len();
        for port in wanted {
            let had = self.ports.get(port).map(Result::is_ok);
            if had != Some(true) {
                let opened = self.listen(*port, had.is_none()).await;
                changed |= had != Some(opened.is_ok());
                self.ports.insert(*port, opened);
            }
        }
        changed
    }

    /// That it cannot is logged where it `is_news`.
    async fn listen(&self, port: u16, is_news: bool) -> Result<Listening, String> {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => {
                tracing::info!(port, "published");
                let listener = Arc::new(listener);
                let task = tokio::spawn(accept(listener.clone(), port, self.machine.clone())).abort_handle();
                Ok(Listening { listener, task })
            }
            Err(error) => {
                let problem = format!("cannot listen on 127.0.0.1:{port}: {error}");
                if is_news {
                    tracing::warn!("{problem}");
                }
                Err(problem)
            }
        }
    }

    fn list(&self) -> Vec<PublishedPort> {
        let entry = |(port, opened): (&u16, &Result<Listening, String>)| PublishedPort {
            port: *port,
            problem: opened.as_ref().err().cloned(),
        };
        self.ports.iter().map(entry).collect()
    }
}

/// The TCP ports of the guest that these containers publish.
fn published_ports(containers: &[ContainerSummary]) -> BTreeSet<u16> {
    let ports = containers.iter().filter_map(|container| container.ports.as_ref()).flatten();
    let tcp = ports.filter(|port| matches!(port.typ, None | Some(PortSummaryTypeEnum::TCP)));
    tcp.filter_map(|port| port.public_port).filter(|port| *port != 0).collect()
}

async fn accept(listener: Arc<TcpListener>, port: u16, machine: MachineSender) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(tunnel(stream, port, machine.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, port, "cannot accept on a published port");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Joins a connection to the port in the guest: the machine process copies, and passes each half-close on.
async fn tunnel(mut stream: TcpStream, port: u16, machine: MachineSender) {
    let joined = async {
        let _ = stream.set_nodelay(true);
        let (ours, machines) = UnixStream::pair()?;
        let message = ToMachine::Connect { guest_port: TUNNEL, preamble: port.to_be_bytes().to_vec() };
        let machines = OwnedFd::from(machines.into_std()?);
        machine.send(&message, Some(machines)).await.map_err(std::io::Error::other)?;
        let mut ours = ours;
        copy_bidirectional(&mut stream, &mut ours).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, port, "a connection to a published port broke");
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerSummary, PortSummary, PortSummaryTypeEnum};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use vmm::control::{Channel, SupervisorEnd, ToMachine};

    use super::{Published, Shutdown, published_ports, shutdown};

    fn container(ports: &[(Option<u16>, PortSummaryTypeEnum)]) -> ContainerSummary {
        let port = |(public_port, typ): &(Option<u16>, PortSummaryTypeEnum)| PortSummary {
            private_port: 80,
            public_port: *public_port,
            typ: Some(*typ),
            ..PortSummary::default()
        };
        ContainerSummary { ports: Some(ports.iter().map(port).collect()), ..ContainerSummary::default() }
    }

    #[test]
    fn only_published_tcp_ports_count_and_each_once() {
        use PortSummaryTypeEnum::{TCP, UDP};
        let containers = [
            container(&[(Some(5000), TCP), (Some(5000), TCP), (None, TCP)]),
            container(&[(Some(53), UDP), (Some(8080), TCP)]),
            ContainerSummary::default(),
        ];
        assert_eq!(published_ports(&containers).into_iter().collect::<Vec<_>>(), [5000, 8080]);
    }

    #[tokio::test]
    async fn connections_go_to_the_guests_port_and_a_taken_port_is_told() {
        let (ours, machines) = std::os::unix::net::UnixStream::pair().unwrap();
        let supervisor = SupervisorEnd::new(ours).unwrap();
        let (_channel, mut reader) = Channel::new(machines).unwrap();
        let mut published = Published { machine: supervisor.sender.clone(), ports: Default::default() };

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap().port();
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        // A process that another test is starting may have a copy of it.
        let _ = shutdown(&listener, Shutdown::Read);
        drop(listener);
        assert!(published.reconcile(&[free, taken].into()).await);
        assert!(!published.reconcile(&[free, taken].into()).await);
        let problem = published.list().into_iter().find(|port| port.port == taken).unwrap().problem.unwrap();
        assert!(
            problem.starts_with(&format!("cannot listen on 127.0.0.1:{taken}: Address already in use")),
            "{problem}"
        );

        let _ = shutdown(&holder, Shutdown::Read);
        drop(holder);
        assert!(published.reconcile(&[free, taken].into()).await, "it is free now");
        assert!(published.list().iter().all(|port| port.problem.is_none()));

        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", free)).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let received = tokio::task::spawn_blocking(move || reader.receive::<ToMachine>().unwrap().unwrap());
        let (message, descriptor) = received.await.unwrap();
        assert_eq!(message, ToMachine::Connect { guest_port: 4, preamble: free.to_be_bytes().to_vec() });
        let stream = std::os::unix::net::UnixStream::from(descriptor.unwrap());
        stream.set_nonblocking(true).unwrap();
        let mut guest = tokio::net::UnixStream::from_std(stream).unwrap();
        let mut bytes = [0; 5];
        guest.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        drop((client, guest));

        // As a process has one that is just being started; on macOS none has.
        #[cfg(target_os = "linux")]
        let _copy = rustix::io::dup(&published.ports[&free].as_ref().unwrap().listener).unwrap();
        assert!(published.reconcile(&[taken].into()).await);
        tokio::task::yield_now().await;
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", free)).await.is_err());
    }
}
