//! `mvm rm`: removes what is called so: an instance and everything on its disk, a builder, or a container.

use futures::future::join_all;

use super::called::Called;
use super::confirm::is_meant;
use super::{Context, Failure, down, inspect, nodes};
use crate::builders::{Builder, Builders, Node};
use crate::instance::{Lock, Name, runtime_dir};

/// Remove an instance that is stopped, with its disk, images and build cache; a builder of `mvm create`; or a container that has ended
///
/// With a builder go the instances that were made for it. All other nodes stay as they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Instances, builders, or containers
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Every builder of which no node answers, with the instances that were made for it
    #[arg(long, conflicts_with = "names")]
    all_inactive: bool,
    /// Stop first what runs, and do not ask before all inactive builders go
    #[arg(short, long)]
    force: bool,
    /// Leave the instances that were made for the builder
    #[arg(long)]
    keep_state: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("name what is to be removed; --all-inactive is every builder of which no node answers")]
struct NoneNamed;

#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}: {source}")]
struct RemoveError {
    path: String,
    source: std::io::Error,
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    if args.all_inactive {
        return all_inactive(context, args).await;
    }
    if args.names.is_empty() {
        return Err(Failure::usage(NoneNamed));
    }
    // All are found before the first goes.
    let mut found = Vec::new();
    for name in &args.names {
        found.push(Called::by(context, name).await?);
    }
    for called in found {
        match called {
            Called::Builder(name) => builder(context, &name, args.keep_state).await?,
            Called::Instance(name) => {
                if args.force {
                    down::stop(context, &name).await?;
                }
                instance(context, &name)?;
                Builders::at(&context.home).forget_use(&name)?;
            }
            Called::Container(daemon, name) => daemon.remove_container(&name, args.force).await?,
        }
    }
    Ok(())
}

async fn all_inactive(context: &Context, args: &Args) -> Result<(), Failure> {
    let (known, mut is_complete) = nodes::all_builders(&Builders::at(&context.home));
    let asked = join_all(known.iter().map(|builder| is_inactive(context, builder))).await;
    let inactive: Vec<_> =
        known.iter().zip(asked).filter(|(_, is)| *is).map(|(builder, _)| builder).collect();
    if inactive.is_empty() {
        eprintln!("no builder is inactive");
    } else if !args.force && !is_meant(&question(context, &inactive, args.keep_state))? {
        return Err(Failure::Status(1));
    }
    for one in inactive {
        // The question may have stood for long.
        if !is_inactive(context, one).await {
            eprintln!("{} is not inactive any more, and stays", one.name);
        } else if let Err(failure) = builder(context, &one.name, args.keep_state).await {
            failure.report();
            is_complete = false;
        }
    }
    if is_complete { Ok(()) } else { Err(Failure::Status(1)) }
}

/// No node answers, and none is just being started or stopped.
async fn is_inactive(context: &Context, builder: &Builder) -> bool {
    let mut instances = builder.nodes.iter().filter_map(Node::instance);
    if instances.any(|name| !Lock::is_free(&context.home.instance(name))) {
        return false;
    }
    inspect::seen(context, builder).await.iter().all(|node| node.problem.is_some())
}

fn question(context: &Context, builders: &[&Builder], keep_state: bool) -> String {
    let named: Vec<_> = builders.iter().map(|builder| builder.name.as_str()).collect();
    let nodes = builders.iter().flat_map(|builder| &builder.nodes).filter(|node| node.is_own && !keep_state);
    let exists = |name: &&Name| context.home.instance(name).config().exists();
    let instances: Vec<_> = nodes.filter_map(Node::instance).filter(exists).map(Name::as_str).collect();
    let with_them = match instances.as_slice() {
        [] => String::new(),
        all => format!(", and with them the instances {}, with their disks and caches", all.join(", ")),
    };
    format!("Remove {}{with_them}?", named.join(", "))
}

async fn builder(context: &Context, name: &Name, keep_state: bool) -> Result<(), Failure> {
    let builders = Builders::at(&context.home);
    // One that cannot be read has no nodes that we know of.
    let nodes = builders.load(name).ok().flatten().map(|builder: Builder| builder.nodes);
    for node in nodes.unwrap_or_default().iter().filter(|node| node.is_own && !keep_state) {
        remove_own(context, node).await?;
    }
    builders.remove(name)?;
    eprintln!("{name} is removed");
    Ok(())
}

/// Stops and removes an instance that was made for a builder, if it has ever been started.
pub(super) async fn remove_own(context: &Context, node: &Node) -> Result<(), Failure> {
    let Some(name) = node.instance().filter(|name| context.home.instance(name).config().exists()) else {
        return Ok(());
    };
    down::stop(context, name).await?;
    instance(context, name)?;
    Ok(Builders::at(&context.home).forget_use(name)?)
}

pub(super) fn instance(context: &Context, name: &Name) -> Result<(), Failure> {
    let paths = context.home.instance(name);
    runtime_dir::prepare(paths.runtime())?;
    let _lock = Lock::take(&paths)?;
    for directory in [paths.runtime(), paths.directory()] {
        std::fs::remove_dir_all(directory)
            .map_err(|source| RemoveError { path: directory.display().to_string(), source })?;
    }
    eprintln!("{name} is removed");
    Ok(())
}
