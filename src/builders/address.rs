//! Where a node is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::instance::Name;

/// How long a host may take to answer at all.
const PATIENCE: &str = "ConnectTimeout=30";

/// The name of an instance, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// Of this machine.
    Instance(Name),
    /// A BuildKit, or what speaks its protocol.
    Unix(PathBuf),
    /// The same, as "HOST:PORT".
    Tcp(String),
    /// An instance of another host.
    Ssh(There),
}

/// An instance of a host that is reached through ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// As ssh takes it, "USER@HOST" or "HOST".
    destination: String,
    port: Option<u16>,
    instance: Name,
}

/// Not the place of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place of a builder: write the name of an instance, unix:///PATH, tcp://HOST:PORT, or ssh://[USER@]HOST[:PORT][/INSTANCE]"
)]
pub struct InvalidAddress(String);

impl InvalidAddress {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl There {
    /// What runs mvm with these words over there, for the instance. No word needs quotes: a name of an instance never does.
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        let port = self.port.map(|port| ["-p".to_owned(), port.to_string()]);
        let mut command = ["ssh", "-T", "-o", PATIENCE].map(str::to_owned).to_vec();
        command.extend(port.into_iter().flatten());
        let remote = ["--", &self.destination, "mvm", "--instance", self.instance.as_str()];
        command.extend(remote.iter().chain(words).map(|&word| word.to_owned()));
        command
    }
}

/// What names a host and a port, a bracketed IPv6 address among it, and nothing else: it becomes a word of a command.
fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain),
    }
}

/// "HOST" or "HOST:PORT".
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon may be one of an address in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        None => None,
    };
    is_host(host).then_some((host, port))
}

fn tcp(rest: &str) -> Option<Address> {
    let (host, port) = host_and_port(rest.trim_end_matches('/'))?;
    Some(Address::Tcp(format!("{host}:{}", port?)))
}

fn ssh(rest: &str) -> Option<Address> {
    let (authority, instance) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = host_and_port(place)?;
    // ssh wants no brackets.
    let host = host.trim_matches(['[', ']']);
    let instance = if instance.is_empty() { Name::default() } else { instance.parse().ok()? };
    let destination = match user {
        Some(user) if is_host(user) && !user.starts_with('[') => format!("{user}@{host}"),
        Some(_) => return None,
        None => host.to_owned(),
    };
    Some(Address::Ssh(There { destination, port, instance }))
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let found = match text.split_once("://") {
            None => text.parse().ok().map(Self::Instance),
            Some(("unix", path)) => Some(Self::Unix(path.into())).filter(|_| path.starts_with('/')),
            Some(("tcp", rest)) => tcp(rest),
            Some(("ssh", rest)) => ssh(rest),
            Some(_) => None,
        };
        found.ok_or_else(|| InvalidAddress(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(name) => write!(f, "{name}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
            Self::Ssh(There { destination, port, instance }) => {
                let (user, host) = match destination.rsplit_once('@') {
                    Some((user, host)) => (format!("{user}@"), host),
                    None => (String::new(), destination.as_str()),
                };
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}/{instance}")
            }
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_understood_and_written_the_same() {
        for (text, written) in [
            ("ci", "ci"),
            ("unix:///run/b.sock", "unix:///run/b.sock"),
            ("tcp://build.example:1234", "tcp://build.example:1234"),
            ("tcp://[::1]:1234/", "tcp://[::1]:1234"),
            ("ssh://host", "ssh://host/default"),
            ("ssh://me@host:2222/ci", "ssh://me@host:2222/ci"),
            ("ssh://me@[fe80::1]", "ssh://me@[fe80::1]/default"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_none() {
        for text in [
            "",
            "A",
            "unix://relative",
            "tcp://host",
            "tcp://host:0",
            "tcp://host:99999",
            "tcp://a b:1",
            "docker-container://x",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-v@host",
            "ssh://a;b@host",
            "ssh://host;reboot",
            "ssh://host/$(reboot)",
            "ssh://[host]",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!("x://y".parse::<Address>().unwrap_err().to_string().contains("ssh://[USER@]HOST[:PORT]"));
    }

    #[test]
    fn mvm_is_run_over_there() {
        let command = |text: &str| match text.parse().unwrap() {
            Address::Ssh(there) => there.command(&["up"]).join(" "),
            _ => panic!("{text}"),
        };
        assert_eq!(
            command("ssh://me@host:22/ci"),
            "ssh -T -o ConnectTimeout=30 -p 22 -- me@host mvm --instance ci up"
        );
        assert_eq!(command("ssh://[::1]"), "ssh -T -o ConnectTimeout=30 -- ::1 mvm --instance default up");
    }
}
