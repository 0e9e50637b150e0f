//! `mvm rm`: removes what is called so: an instance and everything on its disk, a builder, or a container.

use super::{Context, Failure, down, ps};
use crate::builders::{Builder, Builders, Node};
use crate::instance::{Lock, Name, runtime_dir};

/// Remove a stopped instance, with its disk, images and build cache; a builder of `mvm create`; or a container that has ended
///
/// With a builder go the instances that were made for it. All other nodes stay as they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance, the builder, or the container
    name: String,
    /// Leave the instances that were made for the builder
    #[arg(long)]
    keep_state: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "no instance, no builder and no container is named {0}; `mvm ls` and `mvm ps --all` show which there are"
    )]
    Unknown(String),
    #[error("cannot remove {path}: {source}")]
    Remove { path: String, source: std::io::Error },
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let builders = Builders::at(&context.home);
    let name = args.name.parse::<Name>();
    let Ok(name) = name else { return container(context, &args.name).await };
    if builders.exists(&name) {
        // One that cannot be read has no nodes that we know of.
        let nodes = builders.load(&name).ok().flatten().map(|builder: Builder| builder.nodes);
        let nodes = nodes.unwrap_or_default();
        for node in nodes.iter().filter(|node| node.is_own && !args.keep_state) {
            remove_own(context, node).await?;
        }
        builders.remove(&name)?;
        eprintln!("{name} is removed");
        return Ok(());
    }
    if !context.home.instance(&name).directory().exists() {
        return container(context, &args.name).await;
    }
    instance(context, &name)?;
    Ok(builders.forget_use(&name)?)
}

/// A container, where there is a machine that could have one.
async fn container(context: &Context, name: &str) -> Result<(), Failure> {
    match ps::containers(context).await {
        Ok(builder) if builder.has_container(name).await? => Ok(builder.remove_container(name).await?),
        _ => Err(Error::Unknown(name.to_owned()).into()),
    }
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
            .map_err(|source| Error::Remove { path: directory.display().to_string(), source })?;
    }
    eprintln!("{name} is removed");
    Ok(())
}
