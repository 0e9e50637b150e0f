//! `mvm stop`: stops what is called so: the nodes of a builder, or a container.

use super::called::Called;
use super::{Context, Failure, down, nodes, run};
use crate::builders::Address;
use crate::instance::Name;

/// Stop the nodes of a builder, whose disks stay; or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A builder, an instance, or containers by their names [default: the builder in use]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.names.is_empty() {
        return nodes_of(context, &nodes::or_used(context, None)?).await;
    }
    // All are found before the first stops.
    let mut found = Vec::new();
    for name in &args.names {
        found.push(Called::to_stop(context, name).await?);
    }
    for called in found {
        match called {
            Called::Builder(name) | Called::Instance(name) => nodes_of(context, &name).await?,
            Called::Container(daemon, name) => daemon.stop_container(&name).await.map_err(run::explain)?,
        }
    }
    Ok(())
}

async fn nodes_of(context: &Context, name: &Name) -> Result<(), Failure> {
    let builder = nodes::find(context, name).map_err(Failure::usage)?;
    for node in &builder.nodes {
        match &node.address {
            Address::Instance(name) if context.home.instance(name).config().exists() => {
                down::stop(context, name).await?;
            }
            // One of its own that was never started.
            Address::Instance(_) => {}
            Address::Ssh(there) => nodes::run_there(node, &there.command(&["down"])).await?,
            Address::Unix(_) | Address::Tcp(_) => eprintln!("{} is not mvm's to stop", node.name),
        }
    }
    Ok(())
}
