//! `mvm stop`: stops what is called so: the nodes of a builder, or a container.

use super::{Context, Failure, down, nodes, ps, run};
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
    for name in args.names {
        match name.parse::<Name>() {
            Ok(builder) if nodes::find(context, &builder).is_ok() => nodes_of(context, &builder).await?,
            _ => ps::containers(context).await?.stop_container(&name).await.map_err(run::explain)?,
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
