//! Which Docker daemon a command means: that of an instance of ours, or another one that the environment points at.

use std::path::{Path, PathBuf};

use super::{Context, Failure, nodes};
use crate::instance::Paths;
use crate::supervisor::client::{self, OpenPorts};
use crate::supervisor::protocol::PublishedPort;

/// Points other clients at a daemon, and us.
const VARIABLE: &str = "DOCKER_HOST";

/// The daemon that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Instance(Paths),
    /// Not ours, at this socket: no port of this host can be opened to it.
    Other(PathBuf),
}

/// The variable names something other than a unix socket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{VARIABLE} is \"{0}\", but mvm speaks to unix sockets only; write unix:///PATH, unset it, or name an instance with --instance"
)]
pub(super) struct InvalidHost(String);

impl Target {
    /// The instance that was named; else what the variable points at, which may be one of our instances, as after
    /// `eval "$(mvm env)"`; else the default instance.
    pub(super) fn of(context: &Context) -> Result<Self, InvalidHost> {
        Self::choose(context, std::env::var(VARIABLE).ok())
    }

    fn choose(context: &Context, value: Option<String>) -> Result<Self, InvalidHost> {
        // An empty variable counts as unset, as Docker's client has it.
        let value = value.filter(|value| !value.is_empty() && !context.is_named);
        let Some(value) = value else { return Ok(Self::Instance(context.paths())) };
        let socket = match value.strip_prefix("unix://").map(Path::new) {
            Some(path) if path.is_absolute() => path,
            _ => return Err(InvalidHost(value)),
        };
        let mut instances = context.home.instances().into_iter().map(|name| context.home.instance(&name));
        let ours = instances.find(|paths| paths.docker_socket() == socket);
        Ok(ours.map_or_else(|| Self::Other(socket.to_owned()), Self::Instance))
    }

    pub(super) fn socket(&self) -> PathBuf {
        match self {
            Self::Instance(paths) => paths.docker_socket(),
            Self::Other(socket) => socket.clone(),
        }
    }

    /// The ports of this host that lead to containers there; none where that is not known.
    pub(super) async fn published(&self) -> Vec<PublishedPort> {
        let Self::Instance(paths) = self else { return Vec::new() };
        client::status(paths).await.map(|status| status.published_ports).unwrap_or_default()
    }

    /// Opens ports of this host's loopback to the guest, as long as the answer lives.
    pub(super) async fn open_ports(&self, ports: Vec<u16>) -> Result<OpenPorts, Failure> {
        let Self::Instance(paths) = self else { return Ok(OpenPorts::default()) };
        nodes::opened(paths, ports).await
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::cli::Context;
    use crate::cli::tests::context;

    #[test]
    fn a_named_instance_wins_over_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let named = Context { is_named: true, ..context(&directory) };
        for value in [None, Some("unix:///x.sock"), Some("tcp://x")] {
            let target = Target::choose(&named, value.map(str::to_owned)).unwrap();
            assert_eq!(target, Target::Instance(named.paths()), "{value:?}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_default_and_may_mean_an_instance_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        let other = context.home.instance(&"other".parse().unwrap());
        let choose = |value: &str| Target::choose(&context, Some(value.to_owned())).unwrap();
        assert_eq!(choose(""), Target::Instance(context.paths()));
        assert_eq!(
            choose(&format!("unix://{}", other.docker_socket().display())),
            Target::Instance(other.clone())
        );
        // The other interface's socket is not what is asked for.
        let buildkit = other.buildkit_socket();
        assert_eq!(choose(&format!("unix://{}", buildkit.display())), Target::Other(buildkit));
        assert_eq!(choose("unix:///run/d.sock").socket().to_str(), Some("/run/d.sock"));
    }

    #[test]
    fn other_transports_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        for value in ["tcp://127.0.0.1:2375", "unix://relative", "/a/b.sock"] {
            let error = Target::choose(&context, Some(value.to_owned())).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "DOCKER_HOST is \"{value}\", but mvm speaks to unix sockets only; write unix:///PATH, unset it, or name an instance with --instance"
                )
            );
        }
    }
}
