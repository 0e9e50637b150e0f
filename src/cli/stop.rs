//! `mvm stop`: stops the nodes of a builder.

use super::{Context, Failure, down, inspect, nodes};
use crate::builders::{Address, Builders};
use crate::instance::Name;

/// Stop the nodes of a builder; their disks stay
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The builder, or an instance [default: the one in use]
    name: Option<Name>,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let used = Builders::at(&context.home).in_use()?;
    let name = args.name.or(used).unwrap_or_else(|| context.name.clone());
    let builder = nodes::find(context, &name).map_err(Failure::usage)?;
    for node in &builder.nodes {
        match &node.address {
            Address::Instance(name) if context.home.instance(name).config().exists() => {
                down::stop(context, name).await?;
            }
            // One of its own that was never started.
            Address::Instance(_) => {}
            Address::Ssh(there) => inspect::run_there(node, &there.command(&["down"])).await?,
            Address::Unix(_) | Address::Tcp(_) => eprintln!("{} is not mvm's to stop", node.name),
        }
    }
    Ok(())
}
