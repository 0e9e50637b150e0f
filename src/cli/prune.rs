//! `mvm prune`: takes from the builder's cache.

use super::confirm::is_meant;
use super::du;
use super::nodes::{BuilderArg, Nodes};
use super::output::{print, print_line};
use super::{Context, Failure};
use crate::builder::{ByteSize, Filter, Limits};
use crate::printable::human_size;

/// Take what no build needs from the builder's cache
///
/// What was built is not lost by that: images stay, and a build that needs what has gone makes it again. `mvm image prune` is for
/// appliances.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    builder: BuilderArg,
    /// Everything that is not in use, also what images and the builder itself share
    #[arg(short, long)]
    all: bool,
    /// Only records of this kind, as in type=exec.cachemount or until=24h (not used since then)
    #[arg(long = "filter", value_name = "KEY[=VALUE]")]
    filters: Vec<Filter>,
    /// Leave at most so much
    #[arg(long, value_name = "SIZE", alias = "keep-storage")]
    max_used_space: Option<ByteSize>,
    /// Leave at least so much
    #[arg(long, value_name = "SIZE")]
    reserved_space: Option<ByteSize>,
    /// Go on until so much of the disk is free
    #[arg(long, value_name = "SIZE")]
    min_free_space: Option<ByteSize>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
    /// One JSON object for each record that has gone
    #[arg(long)]
    json: bool,
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let nodes = Nodes::of(context, &args.builder)?;
    let question = format!("Take what no build needs from the cache of {}?", nodes.name());
    if !args.force && !is_meant(&question)? {
        return Err(Failure::Status(1));
    }
    let bytes = |size: Option<ByteSize>| size.map_or(0, ByteSize::bytes);
    let limits = Limits {
        all: args.all,
        reserved: bytes(args.reserved_space),
        max_used: bytes(args.max_used_space),
        min_free: bytes(args.min_free_space),
    };
    for (node, mut keeper) in nodes.keepers().await? {
        let (mut records, mut freed) = (Vec::new(), 0_u64);
        keeper
            .prune(&args.filters, limits, |record| {
                freed = freed.saturating_add(record.size);
                records.push(record);
            })
            .await?;
        if args.json {
            for record in &records {
                print_line(nodes.labelled(node, record)?)?;
            }
            continue;
        }
        print(nodes.headline(node))?;
        if !records.is_empty() {
            print_line(du::HEAD)?;
        }
        for record in &records {
            print_line(du::row(record).trim_end())?;
        }
        print(format_args!("Freed {}\n", human_size(freed)))?;
    }
    Ok(())
}
