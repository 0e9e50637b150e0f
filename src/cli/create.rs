//! `mvm create`: a builder of one node or several.

use std::path::PathBuf;

use super::output::print_line;
use super::{Context, Failure, inspect, rm};
use crate::builders::{Address, Builder, Builders, Keys, Node, StoreError};
use crate::instance::{InvalidName, Name};
use crate::registry::Platform;

/// Make a builder of one node, add a node to one, or take one from it
///
/// A build goes to the nodes that run its platforms natively, else to those that emulate them. A node without ENDPOINT is an instance
/// of its own, which starts with `mvm inspect --bootstrap` and goes with the builder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the builder is called
    #[arg(long)]
    name: Name,
    /// What the node is called [default: the builder's name and a number]
    #[arg(long)]
    node: Option<Name>,
    /// What this node is to build before all others, as in linux/arm64,linux/arm/v7
    #[arg(long = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Add the node to a builder that there is
    #[arg(long)]
    append: bool,
    /// Take the node from the builder
    #[arg(long, requires = "node", conflicts_with_all = ["append", "platforms", "endpoint", "driver_options"])]
    leave: bool,
    /// Files for TLS with tcp://HOST:PORT: cacert=FILE,cert=FILE,key=FILE,servername=NAME
    #[arg(long = "driver-opt", value_name = "KEY=VALUE", value_delimiter = ',')]
    driver_options: Vec<String>,
    /// Use it wherever no builder is named
    #[arg(long = "use")]
    is_used: bool,
    /// Start its nodes, and wait for them
    #[arg(long)]
    bootstrap: bool,
    /// Where the node is: the name of an instance, unix:///PATH or tcp://HOST:PORT of a BuildKit, or
    /// ssh://[USER@]HOST[:PORT][/INSTANCE] of mvm on another host
    endpoint: Option<Address>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is a builder named {0} already; --append adds a node to it, `mvm rm {0}` removes it")]
    Exists(Name),
    #[error("there is an instance named {0}, which is a builder by itself; take another name")]
    Instance(Name),
    #[error(
        "there is an instance named {0} already; write `{0}` as ENDPOINT to use it, or name the node otherwise"
    )]
    OwnExists(Name),
    #[error(
        "an instance of the node's own cannot be named {0}, as a builder is; name the node otherwise with --node"
    )]
    OwnIsBuilder(Name),
    #[error("no builder is named {0}; leave --append out to make it")]
    Unknown(Name),
    #[error(
        "no instance is named {0}; `mvm up {0}` makes it, and `mvm create` without ENDPOINT makes one of its own"
    )]
    NoInstance(Name),
    #[error("{builder} has a node named {node} already")]
    NodeExists { builder: Name, node: Name },
    #[error("{builder} has no node named {node}; `mvm inspect {builder}` shows which it has")]
    NoNode { builder: Name, node: Name },
    #[error("{node} is the only node of {builder}; `mvm rm {builder}` removes the builder")]
    LastNode { builder: Name, node: Name },
    #[error("--driver-opt \"{0}\" is none of cacert=FILE, cert=FILE, key=FILE and servername=NAME")]
    Option(String),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("--driver-opt is for tcp://HOST:PORT")]
    NotTcp,
    #[error("TLS needs cacert=FILE, and cert=FILE and key=FILE only together")]
    Incomplete,
    #[error("cannot use {path:?} of --driver-opt")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let builders = Builders::at(&context.home);
    if args.leave {
        return leave(context, &builders, args).await;
    }
    let mut builder = match (builders.load(&args.name)?, args.append) {
        (Some(_), false) => return Err(Failure::usage(Error::Exists(args.name))),
        (None, true) => return Err(Failure::usage(Error::Unknown(args.name))),
        (Some(builder), true) => builder,
        (None, false) => Builder { name: args.name.clone(), nodes: Vec::new() },
    };
    let is_taken =
        context.home.instance(&args.name).config().exists() || builders.owner(&args.name)?.is_some();
    if is_taken {
        return Err(Failure::usage(Error::Instance(args.name)));
    }
    let node = args.node(context, &builders, &builder).map_err(Failure::usage)?;
    builder.nodes.push(node);
    builders.save(&builder)?;
    if args.is_used {
        builders.set_in_use(&builder.name)?;
    }
    if args.bootstrap {
        inspect::bootstrap(context, &builder).await?;
    }
    print_line(&builder.name)
}

async fn leave(context: &Context, builders: &Builders, args: Args) -> Result<(), Failure> {
    let builder = builders.load(&args.name)?;
    let mut builder = builder.ok_or_else(|| Failure::usage(Error::Unknown(args.name.clone())))?;
    let wanted = args.node.unwrap_or_default();
    let Some(place) = builder.nodes.iter().position(|node| node.name == wanted) else {
        return Err(Failure::usage(Error::NoNode { builder: args.name, node: wanted }));
    };
    if builder.nodes.len() == 1 {
        return Err(Failure::usage(Error::LastNode { builder: args.name, node: wanted }));
    }
    let node = builder.nodes.remove(place);
    if node.is_own {
        rm::remove_own(context, &node).await?;
    }
    builders.save(&builder)?;
    print_line(&builder.name)
}

impl Args {
    fn node(&self, context: &Context, builders: &Builders, builder: &Builder) -> Result<Node, Error> {
        let name = match &self.node {
            Some(name) => name.clone(),
            None => numbered(builder)?,
        };
        if builder.nodes.iter().any(|node| node.name == name) {
            return Err(Error::NodeExists { builder: builder.name.clone(), node: name });
        }
        let exists = |name: &Name| context.home.instance(name).config().exists();
        match &self.endpoint {
            None if name == builder.name || builders.exists(&name) => return Err(Error::OwnIsBuilder(name)),
            None if builders.owner(&name)?.is_some() => return Err(Error::OwnExists(name)),
            None if exists(&name) => return Err(Error::OwnExists(name)),
            Some(Address::Instance(instance)) if !exists(instance) => {
                return Err(Error::NoInstance(instance.clone()));
            }
            _ => {}
        }
        let tls = keys(&self.driver_options)?;
        if !self.driver_options.is_empty() && !matches!(self.endpoint, Some(Address::Tcp(_))) {
            return Err(Error::NotTcp);
        }
        Ok(Node {
            address: self.endpoint.clone().unwrap_or_else(|| Address::Instance(name.clone())),
            name,
            platforms: self.platforms.clone(),
            tls,
            is_own: self.endpoint.is_none(),
        })
    }
}

/// The builder's name and the first number that none of its nodes has.
fn numbered(builder: &Builder) -> Result<Name, InvalidName> {
    let mut number = 0_u32;
    loop {
        let name = format!("{}{number}", builder.name).parse()?;
        if !builder.nodes.iter().any(|node| node.name == name) {
            return Ok(name);
        }
        number = number.saturating_add(1);
    }
}

/// The files of TLS, as `docker buildx create --driver remote` names them.
fn keys(options: &[String]) -> Result<Option<Keys>, Error> {
    let (mut cacert, mut cert, mut key, mut servername) = (None, None, None, None);
    let file =
        |path: &str| std::fs::canonicalize(path).map_err(|source| Error::File { path: path.into(), source });
    for option in options {
        match option.split_once('=') {
            Some(("cacert", path)) => cacert = Some(file(path)?),
            Some(("cert", path)) => cert = Some(file(path)?),
            Some(("key", path)) => key = Some(file(path)?),
            Some(("servername", name)) => servername = Some(name.to_owned()),
            _ => return Err(Error::Option(option.clone())),
        }
    }
    match cacert {
        _ if options.is_empty() => Ok(None),
        Some(cacert) if cert.is_some() == key.is_some() => Ok(Some(Keys { cacert, cert, key, servername })),
        _ => Err(Error::Incomplete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_numbered() {
        let mut builder = Builder::of("ci".parse().unwrap(), Address::Instance("x".parse().unwrap()));
        assert_eq!(numbered(&builder).unwrap().as_str(), "ci0");
        builder.nodes[0].name = "ci0".parse().unwrap();
        assert_eq!(numbered(&builder).unwrap().as_str(), "ci1");
    }

    #[test]
    fn keys_are_complete_and_absolute() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, "").unwrap();
        let cacert = format!("cacert={}", ca.display());
        let keys =
            |options: &[&str]| keys(&options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>());
        assert!(keys(&[]).unwrap().is_none());
        let found = keys(&[&cacert, "servername=b"]).unwrap().unwrap();
        assert!(found.cacert.is_absolute() && found.servername.as_deref() == Some("b"));
        let wrong = |options: &[&str]| match keys(options) {
            Err(error) => error.to_string(),
            Ok(keys) => panic!("{keys:?}"),
        };
        assert!(wrong(&["servername=b"]).starts_with("TLS needs cacert=FILE"));
        assert!(wrong(&[&cacert, &cacert.replace("cacert", "key")]).ends_with("only together"));
        assert!(wrong(&["ca=x"]).starts_with("--driver-opt \"ca=x\" is none of"));
        assert!(wrong(&["cacert=/no/such"]).starts_with("cannot use \"/no/such\""));
    }
}
