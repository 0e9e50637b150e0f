//! Which builder a verb means, and its nodes.

use futures::future::join_all;
use serde::Serialize;

use super::{Context, Failure};
use crate::agent::Agent;
use crate::builder::{KeepError, Keeper, Known, Store, Worker};
use crate::builders::{Address, Builder, Builders, InvalidAddress, Node, StoreError};
use crate::chain::Chain;
use crate::instance::{InvalidName, Name, Paths};
use crate::printable::printable;
use crate::supervisor;
use crate::supervisor::client::{OpenPorts, open_ports};

/// Points other clients of BuildKit at a builder, and us.
const VARIABLE: &str = "BUILDKIT_HOST";

/// Names a builder for mvm alone.
const BUILDER: &str = "MVM_BUILDER";

/// Names a builder.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BuilderArg {
    /// The builder to use: one of `mvm create`, or an instance [default: that of --instance, of MVM_BUILDER, of BUILDKIT_HOST, of
    /// `mvm use`]
    #[arg(long, value_name = "NAME", global = true)]
    builder: Option<Name>,
}

impl BuilderArg {
    /// The name that was given, here or by the variable. What stands on the command line wins.
    fn meant(&self, context: &Context, value: Option<String>) -> Result<Option<Name>, Error> {
        let value = value.filter(|value| !value.is_empty() && !context.is_given);
        Ok(match &self.builder {
            Some(name) => Some(name.clone()),
            None => value.map(|value| value.parse()).transpose()?,
        })
    }
}

/// The builder that is meant.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    context: &'a Context,
    builder: Builder,
}

/// What is meant cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no builder is named {0}; `mvm ls` shows which there are")]
    Unknown(Name),
    #[error("{BUILDER}: {0}")]
    Name(#[from] InvalidName),
    #[error("{VARIABLE}: {0}")]
    Variable(#[from] InvalidAddress),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("node {node}")]
    Keeper {
        node: Name,
        #[source]
        source: Box<KeepError>,
    },
    #[error("cannot start ssh, which leads to node {node}")]
    Ssh {
        node: Name,
        #[source]
        source: std::io::Error,
    },
    #[error("mvm on the host of node {0} has failed; ssh, or mvm over there, has said why")]
    There(Name),
}

/// All builders of `mvm create` that can be read, and whether there are no others: of those it is said what is wrong.
pub(super) fn all_builders(builders: &Builders) -> (Vec<Builder>, bool) {
    let (mut known, mut are_all) = (Vec::new(), true);
    for name in builders.names() {
        match builders.load(&name) {
            Ok(builder) => known.extend(builder),
            Err(error) => {
                Failure::from(error).report();
                are_all = false;
            }
        }
    }
    (known, are_all)
}

/// A builder or an instance that has this name.
pub(super) fn find(context: &Context, name: &Name) -> Result<Builder, Error> {
    if let Some(builder) = Builders::at(&context.home).load(name)? {
        return Ok(builder);
    }
    if !context.home.instance(name).config().exists() {
        return Err(Error::Unknown(name.clone()));
    }
    Ok(Builder::of(name.clone(), Address::Instance(name.clone())))
}

/// The name that was given; else the instance that was named; else what `mvm use` said; else the default instance.
pub(super) fn or_used(context: &Context, given: Option<Name>) -> Result<Name, StoreError> {
    if let Some(name) = given {
        return Ok(name);
    }
    let used = if context.is_named { None } else { Builders::at(&context.home).in_use()? };
    Ok(used.unwrap_or_else(|| context.name.clone()))
}

impl<'a> Nodes<'a> {
    /// The builder that was named; else the instance; else what a variable points at, which may be one of our instances, as
    /// after `eval "$(mvm env)"`; else what `mvm use` said; else the default instance.
    pub(super) fn of(context: &'a Context, named: &BuilderArg) -> Result<Self, Failure> {
        let value = std::env::var(VARIABLE).ok();
        let named = named.meant(context, std::env::var(BUILDER).ok()).map_err(Failure::usage)?;
        let builder = Self::choose(context, named.as_ref(), value).map_err(Failure::usage)?;
        Ok(Self { context, builder })
    }

    pub(super) fn of_builder(context: &'a Context, builder: Builder) -> Self {
        Self { context, builder }
    }

    fn choose(context: &Context, named: Option<&Name>, value: Option<String>) -> Result<Builder, Error> {
        if let Some(name) = named {
            return find(context, name);
        }
        // An empty variable counts as unset, as Docker's client has it.
        let value = value.filter(|value| !value.is_empty() && !context.is_named);
        if let Some(value) = value {
            return Ok(by_variable(context, value)?);
        }
        let builders = Builders::at(&context.home);
        let used = if context.is_named { None } else { builders.in_use()? };
        let used = used.map(|name| builders.load(&name)).transpose()?.flatten();
        let instance = || Builder::of(context.name.clone(), Address::Instance(context.name.clone()));
        Ok(used.unwrap_or_else(instance))
    }

    pub(super) fn name(&self) -> &Name {
        &self.builder.name
    }

    pub(super) fn all(&self) -> &[Node] {
        &self.builder.nodes
    }

    pub(super) fn are_several(&self) -> bool {
        self.builder.nodes.len() > 1
    }

    /// Where the instance lies that a node is.
    pub(super) fn paths(&self, node: &Node) -> Option<Paths> {
        node.instance().map(|name| self.context.home.instance(name))
    }

    /// The builders themselves, asked about what they keep. One of several that does not answer is left out, unless none does.
    pub(super) async fn keepers(&self) -> Result<Vec<(&Node, Keeper)>, Failure> {
        let (mut keepers, mut silent) = (Vec::new(), Vec::new());
        for node in self.all() {
            match Keeper::at(&node.endpoint(&self.context.home)).await {
                Ok(keeper) => keepers.push((node, keeper)),
                Err(error) => silent.push((node, error)),
            }
        }
        if keepers.is_empty()
            && let Some((node, error)) = silent.pop()
        {
            return Err(if self.are_several() {
                Failure::no_machine(Error::Keeper { node: node.name.clone(), source: Box::new(error) })
            } else {
                Failure::no_machine(error)
            });
        }
        for (node, error) in silent {
            eprintln!("node {} is left out: {}", node.name, Chain(&error));
        }
        Ok(keepers)
    }

    /// What stands before a node's part of a text, where there are several.
    pub(super) fn headline(&self, node: &Node) -> String {
        if self.are_several() { format!("Node {}:\n", node.name) } else { String::new() }
    }

    /// Something of a node as JSON, with the node's name where there are several.
    pub(super) fn labelled(&self, node: &Node, of: &impl Serialize) -> serde_json::Result<serde_json::Value> {
        let mut value = serde_json::to_value(of)?;
        if let Some(object) = value.as_object_mut().filter(|_| self.are_several()) {
            object.insert("node".to_owned(), node.name.as_str().into());
        }
        Ok(value)
    }

    /// What each node runs, in their order; or why it does not say. Of an instance the version is told only when it is asked for.
    pub(super) async fn workers(&self, with_version: bool) -> Vec<Result<Worker, String>> {
        join_all(self.all().iter().map(|node| self.worker(node, with_version))).await
    }

    async fn worker(&self, node: &Node, with_version: bool) -> Result<Worker, String> {
        let asked = || async {
            let asked = Worker::at(&node.endpoint(&self.context.home)).await;
            asked.map_err(|error| Chain(&error).to_string())
        };
        let Some(paths) = self.paths(node) else { return asked().await };
        let platforms = platforms(&paths).await.map_err(|failure| match failure {
            Failure::NoMachine(_) => {
                format!("it does not run; `mvm inspect --bootstrap {}` starts it", self.name())
            }
            Failure::Failed(error) | Failure::Usage(error) => error.to_string(),
            _ => "it does not answer".to_owned(),
        })?;
        let version = if with_version { asked().await.map(|worker| worker.version).ok() } else { None };
        Ok(Worker { version: version.unwrap_or_default(), platforms })
    }

    /// Opens ports of this host's loopback to a node's guest, as long as the answer lives. Nobody can open any to others.
    pub(super) async fn open_ports(&self, node: &Node, ports: Vec<u16>) -> Result<OpenPorts, Failure> {
        let Some(paths) = self.paths(node) else { return Ok(OpenPorts::default()) };
        opened(&paths, ports).await
    }
}

pub(super) async fn opened(paths: &Paths, ports: Vec<u16>) -> Result<OpenPorts, Failure> {
    open_ports(paths, ports).await.map_err(|error| match error {
        error if error.is_no_machine() => Failure::no_machine(error),
        error => error.into(),
    })
}

/// Runs mvm on the host of a node that is behind ssh, with what both say for the user to see.
pub(super) async fn run_there(node: &Node, words: &[String]) -> Result<(), Failure> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let status = command.kill_on_drop(true).status().await;
    let status = status.map_err(|source| Error::Ssh { node: node.name.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Failure::no_machine(Error::There(node.name.clone()))) }
}

/// Where a node keeps its images: mvm's own have a Docker daemon.
pub(super) fn store(node: &Node) -> Store {
    match &node.address {
        Address::Instance(_) | Address::Ssh(_) => Store::Docker,
        Address::Unix(_) | Address::Tcp(_) => Store::Worker,
    }
}

/// What the guest's self-test found; waits for it right after a boot, and while it is done again because a registration
/// has changed.
pub(super) async fn platforms(paths: &Paths) -> Result<Vec<Known>, Failure> {
    let found = async { Agent::at(&paths.agent_socket()).await?.platforms(false).await };
    let found = found.await.map_err(|error| match error {
        error if error.is_no_machine() => Failure::no_machine(error),
        error => error.into(),
    })?;
    let known = |found: supervisor::protocol::Platform| {
        let reason =
            found.reason.map_or_else(|| "its self-test failed".to_owned(), |reason| printable(&reason));
        // A platform of a spelling that we do not know is none that can be asked for.
        let platform = found.platform.parse().ok()?;
        let emulator = found.emulator.map(|emulator| printable(&emulator));
        Some(Known { platform, broken: (!found.works).then_some(reason), emulator })
    };
    Ok(found.into_iter().map(Into::into).filter_map(known).collect())
}

fn by_variable(context: &Context, value: String) -> Result<Builder, InvalidAddress> {
    let address = match value.parse()? {
        // A word is the name of an instance only where mvm asks for one.
        Address::Instance(_) => return Err(InvalidAddress::new(value)),
        Address::Unix(socket) => {
            let ours = context.home.instances().into_iter();
            let mut ours = ours.filter(|name| context.home.instance(name).buildkit_socket() == socket);
            match ours.next() {
                Some(name) => return Ok(Builder::of(name.clone(), Address::Instance(name))),
                None => Address::Unix(socket),
            }
        }
        address => address,
    };
    Ok(Builder::of(Name::remote(), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two instances, and a builder, "many".
    fn context(directory: &tempfile::TempDir) -> Context {
        let context = crate::cli::tests::context(directory);
        let many = Builder::of("many".parse().unwrap(), "tcp://host:1".parse().unwrap());
        Builders::at(&context.home).save(&many).unwrap();
        context
    }

    /// The address of the only node.
    fn chosen(context: &Context, named: Option<&str>, value: Option<&str>) -> Result<String, String> {
        let named = named.map(|name| name.parse().unwrap());
        let builder = Nodes::choose(context, named.as_ref(), value.map(str::to_owned));
        builder.map(|builder| builder.nodes[0].address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_wins_over_the_environment_which_wins_over_what_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        let named = Context { is_named: true, ..self::context(&directory) };
        let variable = Some("unix:///x.sock");
        assert_eq!(chosen(&context, None, None).unwrap(), "default");
        Builders::at(&context.home).set_in_use(&"many".parse().unwrap()).unwrap();
        assert_eq!(chosen(&context, None, None).unwrap(), "tcp://host:1");
        assert_eq!(chosen(&context, None, Some("")).unwrap(), "tcp://host:1");
        assert_eq!(chosen(&context, None, variable).unwrap(), "unix:///x.sock");
        assert_eq!(chosen(&named, None, variable).unwrap(), "default");
        assert_eq!(chosen(&named, Some("other"), variable).unwrap(), "other");
        let unknown = chosen(&context, Some("none"), variable).unwrap_err();
        assert_eq!(unknown, "no builder is named none; `mvm ls` shows which there are");
    }

    #[test]
    fn what_stands_on_the_command_line_wins_over_variables() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        let given = Context { is_named: true, is_given: true, ..self::context(&directory) };
        let meant = |context: &Context, flag: Option<&str>, value: &str| {
            let flag = BuilderArg { builder: flag.map(|name| name.parse().unwrap()) };
            let meant = flag.meant(context, Some(value.to_owned()));
            meant.map(|name| name.map(|name| name.to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(meant(&context, None, "many"), Ok(Some("many".to_owned())));
        assert_eq!(meant(&context, None, ""), Ok(None));
        assert_eq!(meant(&context, Some("other"), "many"), Ok(Some("other".to_owned())));
        assert_eq!(meant(&given, None, "many"), Ok(None));
        let wrong = meant(&context, None, "No").unwrap_err();
        assert!(wrong.starts_with("MVM_BUILDER: "), "{wrong}");
    }

    #[test]
    fn the_environment_may_mean_an_instance_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(&directory);
        let other = context.home.instance(&"other".parse().unwrap());
        let of = |socket: std::path::PathBuf| format!("unix://{}", socket.display());
        assert_eq!(chosen(&context, None, Some(&of(other.buildkit_socket()))).unwrap(), "other");
        // The other interface's socket is not what is asked for.
        let docker = of(other.docker_socket());
        assert_eq!(chosen(&context, None, Some(&docker)).unwrap(), docker);
        assert_eq!(chosen(&context, None, Some("tcp://h:1")).unwrap(), "tcp://h:1");
        for value in ["docker-container://x", "other", "unix://relative"] {
            let error = chosen(&context, None, Some(value)).unwrap_err();
            assert!(
                error.starts_with(&format!("BUILDKIT_HOST: {value:?} is no place of a builder")),
                "{error}"
            );
        }
    }
}
