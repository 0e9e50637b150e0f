//! `mvm context`: other clients are told of a builder, or told no more.

use std::collections::BTreeMap;

use super::{Context, Failure, nodes};
use crate::builders::{Address, Builder, Node};
use crate::docker::{BuildxNode, ClientFiles};
use crate::instance::Name;

/// Tell Docker's client and buildx of a builder, so that they use it without variables
///
/// Writes a context of Docker's client, `mvm` for the instance `default` and `mvm-NAME` for others, and a builder of buildx that
/// speaks BuildKit's own protocol, `mvm-buildkit` or `mvm-NAME-buildkit`. A builder of several nodes is one of buildx's only.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write them
    Add {
        /// The builder, or an instance [default: the one in use]
        name: Option<Name>,
        /// Have plain `docker` and `docker buildx` use it
        #[arg(long = "use")]
        is_used: bool,
    },
    /// Remove them
    Rm {
        /// The builder, or an instance, whether it still is there or not [default: the one in use]
        name: Option<Name>,
    },
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "buildx has no way to node {0}, which is reached through ssh; tell the client over there of it instead"
    )]
    Ssh(Name),
    #[error("neither Docker's client nor buildx was told of {0}")]
    Nothing(Name),
}

pub fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let files = ClientFiles::from_env()?;
    match args.verb {
        Verb::Add { name, is_used } => {
            let name = nodes::or_used(context, name)?;
            add(context, &files, &nodes::find(context, &name).map_err(Failure::usage)?, is_used)
        }
        Verb::Rm { name } => {
            let name = nodes::or_used(context, name)?;
            let context = files.remove_context(&context_name(&name))?;
            let builder = files.remove_builder(&builder_name(&name))?;
            if context || builder { Ok(()) } else { Err(Error::Nothing(name).into()) }
        }
    }
}

fn add(context: &Context, files: &ClientFiles, builder: &Builder, is_used: bool) -> Result<(), Failure> {
    let nodes = builder.nodes.iter().map(|node| of_buildx(context, node)).collect::<Result<Vec<_>, _>>()?;
    let (in_docker, in_buildx) = (context_name(&builder.name), builder_name(&builder.name));
    let instance = match builder.nodes.as_slice() {
        [node] => node.instance(),
        _ => None,
    };
    if let Some(name) = instance {
        let host = format!("unix://{}", context.home.instance(name).docker_socket().display());
        files.write_context(&in_docker, &host, &format!("instance {name}"))?;
        eprintln!("Docker's client has the context {in_docker}");
    }
    files.write_builder(&in_buildx, &nodes)?;
    eprintln!("buildx has the builder {in_buildx}");
    match (is_used, instance) {
        (false, _) => {}
        (true, Some(_)) => files.use_context(&in_docker)?,
        (true, None) => files.use_builder(&in_buildx)?,
    }
    Ok(())
}

fn context_name(name: &Name) -> String {
    if *name == Name::default() { "mvm".to_owned() } else { format!("mvm-{name}") }
}

fn builder_name(name: &Name) -> String {
    format!("{}-buildkit", context_name(name))
}

/// A node as buildx's remote driver reaches it.
pub(super) fn of_buildx(context: &Context, node: &Node) -> Result<BuildxNode, Failure> {
    let endpoint = match &node.address {
        Address::Instance(name) => {
            format!("unix://{}", context.home.instance(name).buildkit_socket().display())
        }
        Address::Unix(_) | Address::Tcp(_) => node.address.to_string(),
        Address::Ssh(_) => return Err(Failure::usage(Error::Ssh(node.name.clone()))),
    };
    let mut options = BTreeMap::new();
    if let Some(keys) = &node.tls {
        let path = |path: &std::path::PathBuf| path.display().to_string();
        let files = [
            ("cacert", Some(path(&keys.cacert))),
            ("cert", keys.cert.as_ref().map(path)),
            ("key", keys.key.as_ref().map(path)),
        ];
        let all = files.into_iter().chain([("servername", keys.servername.clone())]);
        options.extend(all.filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }
    let platforms = node.platforms.iter();
    let platforms = platforms.map(|one| (one.os.clone(), one.architecture.clone(), one.variant.clone()));
    Ok(BuildxNode { name: node.name.to_string(), endpoint, platforms: platforms.collect(), options })
}
