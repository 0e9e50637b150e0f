//! `mvm rm`: removes an instance and everything on its disk, or a builder.

use super::{Context, Failure, down};
use crate::builders::{Builder, Builders, Node};
use crate::instance::{Lock, Name, runtime_dir};

/// Remove a stopped instance, with its disk, images and build cache; or a builder of `mvm create`
///
/// With a builder go the instances that were made for it. All other nodes stay as they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance, or the builder
    name: Name,
    /// Leave the instances that were made for the builder
    #[arg(long)]
    keep_state: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no instance and no builder is named {0}; `mvm ls` shows which there are")]
    Unknown(Name),
    #[error("cannot remove {path}: {source}")]
    Remove { path: String, source: std::io::Error },
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let builders = Builders::at(&context.home);
    if builders.exists(&args.name) {
        // One that cannot be read has no nodes that we know of.
        let nodes = builders.load(&args.name).ok().flatten().map(|builder: Builder| builder.nodes);
        let nodes = nodes.unwrap_or_default();
        for node in nodes.iter().filter(|node| node.is_own && !args.keep_state) {
            remove_own(context, node).await?;
        }
        builders.remove(&args.name)?;
        eprintln!("{} is removed", args.name);
        return Ok(());
    }
    instance(context, &args.name)?;
    Ok(builders.forget_use(&args.name)?)
}

/// Stops and removes an instance that was made for a builder, if it has ever been started.
pub(super) async fn remove_own(context: &Context, node: &Node) -> Result<(), Failure> {
    let Some(name) = node.instance().filter(|name| context.home.instance(name).config().exists()) else {
        return Ok(());
    };
    down::stop(context, name).await?;
    instance(context, name)
}

fn instance(context: &Context, name: &Name) -> Result<(), Failure> {
    let paths = context.home.instance(name);
    if !paths.directory().exists() {
        return Err(Error::Unknown(name.clone()).into());
    }
    runtime_dir::prepare(paths.runtime())?;
    let _lock = Lock::take(&paths)?;
    for directory in [paths.runtime(), paths.directory()] {
        std::fs::remove_dir_all(directory)
            .map_err(|source| Error::Remove { path: directory.display().to_string(), source })?;
    }
    eprintln!("{name} is removed");
    Ok(())
}
