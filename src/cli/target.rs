//! Which builder a command means: an instance of ours, or another one that the environment points at.

use std::path::{Path, PathBuf};

use super::{Context, Failure};
use crate::builder::{Endpoint, Keeper};
use crate::instance::Paths;
use crate::supervisor::client::{OpenPorts, open_ports};

/// One of the two interfaces of a builder.
#[derive(Debug)]
pub(super) struct Interface {
    /// Points other clients at it, and us.
    pub variable: &'static str,
    pub socket: fn(&Paths) -> PathBuf,
}

pub(super) const DOCKER: Interface = Interface { variable: "DOCKER_HOST", socket: Paths::docker_socket };
pub(super) const BUILDKIT: Interface =
    Interface { variable: "BUILDKIT_HOST", socket: Paths::buildkit_socket };

/// The builder that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Instance(Paths),
    /// Not ours, at this socket: nobody can be asked what it runs, and no port of this host can be opened to it.
    Other(PathBuf),
}

/// A variable names something other than a unix socket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{variable} is \"{value}\", but mvm speaks to unix sockets only; write unix:///PATH, unset it, or name an instance with --instance"
)]
pub(super) struct InvalidHost {
    variable: &'static str,
    value: String,
}

impl Target {
    /// The instance that was named; else what the interface's variable points at, which may be one of our instances, as
    /// after `eval "$(mvm env)"`; else the default instance.
    pub(super) fn of(context: &Context, interface: &Interface) -> Result<Self, InvalidHost> {
        Self::choose(context, interface, std::env::var(interface.variable).ok())
    }

    fn choose(context: &Context, interface: &Interface, value: Option<String>) -> Result<Self, InvalidHost> {
        // An empty variable counts as unset, as Docker's client has it.
        let value = value.filter(|value| !value.is_empty() && !context.is_named);
        let Some(value) = value else { return Ok(Self::Instance(context.paths())) };
        let socket = match value.strip_prefix("unix://").map(Path::new) {
            Some(path) if path.is_absolute() => path,
            _ => return Err(InvalidHost { variable: interface.variable, value }),
        };
        let mut instances = context.home.instances().into_iter().map(|name| context.home.instance(&name));
        let ours = instances.find(|paths| (interface.socket)(paths) == socket);
        Ok(ours.map_or_else(|| Self::Other(socket.to_owned()), Self::Instance))
    }

    /// What it is called where it is told from others.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Instance(paths) => {
                paths.directory().file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Other(_) => "remote".to_owned(),
        }
    }

    pub(super) fn socket(&self, interface: &Interface) -> PathBuf {
        match self {
            Self::Instance(paths) => (interface.socket)(paths),
            Self::Other(socket) => socket.clone(),
        }
    }

    /// The builder itself, asked about what it keeps.
    pub(super) async fn keeper(&self) -> Result<Keeper, Failure> {
        Keeper::at(&Endpoint::unix(self.socket(&BUILDKIT))).await.map_err(Failure::no_machine)
    }

    /// Opens ports of this host's loopback to the guest, as long as the answer lives.
    pub(super) async fn open_ports(&self, ports: Vec<u16>) -> Result<OpenPorts, Failure> {
        let Self::Instance(paths) = self else { return Ok(OpenPorts::default()) };
        open_ports(paths, ports).await.map_err(|error| match error {
            error if error.is_no_machine() => Failure::no_machine(error),
            error => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BUILDKIT, DOCKER, Target};
    use crate::cli::Context;
    use crate::instance::{Config, Home};

    /// Two instances exist: "default" and "other".
    fn context(directory: &tempfile::TempDir) -> Context {
        let home = Home::below(directory.path());
        for name in ["default", "other"] {
            let paths = home.instance(&name.parse().unwrap());
            std::fs::create_dir_all(paths.directory()).unwrap();
            Config::for_host(1, 0).store(&paths.config()).unwrap();
        }
        Context { home, name: "default".parse().unwrap(), is_named: false }
    }

    #[test]
    fn a_named_instance_wins_over_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let named = Context { is_named: true, ..context(&directory) };
        for value in [None, Some("unix:///x.sock"), Some("tcp://x")] {
            let target = Target::choose(&named, &DOCKER, value.map(str::to_owned)).unwrap();
            assert_eq!(target, Target::Instance(named.paths()), "{value:?}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_default_and_may_mean_an_instance_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        let other = context.home.instance(&"other".parse().unwrap());
        let choose = |value: &str| Target::choose(&context, &BUILDKIT, Some(value.to_owned())).unwrap();
        assert_eq!(choose(""), Target::Instance(context.paths()));
        assert_eq!(
            choose(&format!("unix://{}", other.buildkit_socket().display())),
            Target::Instance(other.clone())
        );
        // The other interface's socket is not what is asked for.
        let docker = other.docker_socket();
        assert_eq!(choose(&format!("unix://{}", docker.display())), Target::Other(docker));
        let foreign = choose("unix:///run/b.sock");
        assert_eq!(foreign.socket(&BUILDKIT).to_str(), Some("/run/b.sock"));
    }

    #[test]
    fn other_transports_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        for value in ["tcp://127.0.0.1:2375", "unix://relative", "/a/b.sock"] {
            let error = Target::choose(&context, &DOCKER, Some(value.to_owned())).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "DOCKER_HOST is \"{value}\", but mvm speaks to unix sockets only; write unix:///PATH, unset it, or name an instance with --instance"
                )
            );
        }
    }
}
