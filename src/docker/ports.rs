//! `-p HOST:CONTAINER`: a port of a container on the host's 127.0.0.1.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::str::FromStr;

use bollard::models::{PortBinding, PortMap};

use super::Error;

/// One published TCP port. The daemon listens on the guest's loopback, the supervisor on the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    pub host: u16,
    pub container: u16,
}

/// Not a port to publish.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPort {
    #[error(
        "\"{0}\" is not a port to publish: write HOST:CONTAINER with two numbers from 1 to 65535, such as 8080:80"
    )]
    Malformed(String),
    #[error("\"{0}\" cannot be published: only TCP ports can; leave out the protocol")]
    NotTcp(String),
    #[error("\"{0}\" cannot be published: ports are published on 127.0.0.1 only; leave out the address")]
    NotLoopback(String),
}

impl FromStr for PublishedPort {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let malformed = || InvalidPort::Malformed(text.to_owned());
        let numbers = match text.split_once('/') {
            None => text,
            Some((numbers, "tcp")) => numbers,
            Some(_) => return Err(InvalidPort::NotTcp(text.to_owned())),
        };
        let (rest, container) = numbers.rsplit_once(':').ok_or_else(malformed)?;
        let host = match rest.rsplit_once(':') {
            None => rest,
            Some(("127.0.0.1", port)) => port,
            Some(_) => return Err(InvalidPort::NotLoopback(text.to_owned())),
        };
        let number = |digits: &str| match digits.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(malformed()),
        };
        Ok(Self { host: number(host)?, container: number(container)? })
    }
}

/// Refuses a port of the host that is in use, before anything is started for it. Of those that the builder's own side `holds` the
/// daemon knows better: one may be left of a container that has just ended.
pub(super) fn refuse_taken(ports: &[PublishedPort], held: &[u16]) -> Result<(), Error> {
    for port in ports.iter().filter(|port| !held.contains(&port.host)) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port.host)) {
            Ok(listener) => drop(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(taken(*port)),
            Err(source) => return Err(Error::PortRefused { port: port.host, source }),
        }
    }
    Ok(())
}

/// That another container has it, in the daemon's words.
pub(super) fn refused(ports: &[PublishedPort], reason: &str) -> Option<Error> {
    let is_meant = |port: &&PublishedPort| reason.contains(&format!(":{} failed", port.host));
    let port = ports.iter().find(is_meant).filter(|_| reason.contains("port is already allocated"))?;
    Some(taken(*port))
}

fn taken(PublishedPort { host, container }: PublishedPort) -> Error {
    Error::PortTaken { port: host, suggestion: free_port_after(host), container }
}

/// A port that is free now, near the one that was wanted.
fn free_port_after(taken: u16) -> u16 {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (taken..=u16::MAX).skip(1).take(1000).find(free).unwrap_or(0)
}

/// The keys of `ExposedPorts`.
pub(super) fn exposed(ports: &[PublishedPort]) -> Option<Vec<String>> {
    (!ports.is_empty()).then(|| ports.iter().map(|port| key(*port)).collect())
}

pub(super) fn bindings(ports: &[PublishedPort]) -> Option<PortMap> {
    let mut map: PortMap = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
            host_port: Some(port.host.to_string()),
        };
        map.entry(key(*port)).or_default().get_or_insert_default().push(binding);
    }
    (!map.is_empty()).then_some(map)
}

fn key(port: PublishedPort) -> String {
    format!("{}/tcp", port.container)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{Shutdown, shutdown};

    use super::{Error, PublishedPort, bindings, refuse_taken, refused};

    #[test]
    fn ways_to_write_a_port() {
        let expected = PublishedPort { host: 5001, container: 5000 };
        for text in ["5001:5000", "5001:5000/tcp", "127.0.0.1:5001:5000", "127.0.0.1:5001:5000/tcp"] {
            assert_eq!(text.parse::<PublishedPort>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let refusal = |text: &str| text.parse::<PublishedPort>().unwrap_err().to_string();
        for text in ["5000", "a:b", "0:5000", "5000:70000", ":5000", "5000:"] {
            assert_eq!(
                refusal(text),
                format!(
                    "\"{text}\" is not a port to publish: write HOST:CONTAINER with two numbers from 1 to 65535, such as 8080:80"
                )
            );
        }
        assert_eq!(
            refusal("53:53/udp"),
            "\"53:53/udp\" cannot be published: only TCP ports can; leave out the protocol"
        );
        assert_eq!(
            refusal("0.0.0.0:80:80"),
            "\"0.0.0.0:80:80\" cannot be published: ports are published on 127.0.0.1 only; leave out the address"
        );
    }

    #[test]
    fn a_container_port_may_have_two_host_ports() {
        let ports = ["1:80", "2:80"].map(|text| text.parse().unwrap());
        assert_eq!(bindings(&ports).unwrap()["80/tcp"].as_ref().unwrap().len(), 2);
        assert_eq!(bindings(&[]), None);
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let published = [PublishedPort { host: port, container: 80 }];
        refuse_taken(&published, &[port]).unwrap();
        let error = refuse_taken(&published, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "port {port} of 127.0.0.1 is taken by another program; choose another one, as -p "
            )),
            "{error}"
        );
        // A process that another test is starting may have a copy of it.
        let _ = shutdown(&listener, Shutdown::Read);
        drop(listener);
        refuse_taken(&published, &[]).unwrap();
    }

    #[test]
    fn a_port_of_another_container_is_taken_too() {
        let ports = ["5000:80", "5001:81"].map(|text| text.parse().unwrap());
        let reason = "failed to set up container networking: driver failed programming external connectivity on endpoint a: Bind for 127.0.0.1:5001 failed: port is already allocated";
        assert!(matches!(refused(&ports, reason), Some(Error::PortTaken { port: 5001, container: 81, .. })));
        assert!(refused(&ports, "no such file or directory").is_none());
        assert!(refused(&ports[..1], reason).is_none());
    }
}
