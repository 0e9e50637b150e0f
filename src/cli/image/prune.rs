//! `mvm image rm` and `prune`: what is not wanted any more.

use std::collections::BTreeMap;
use std::fmt;

use images::prune::{self, Kind, Pruned, Scope};

use crate::cli::output::{print, print_line};
use crate::cli::{Context, Failure, appliance, status};
use crate::supervisor::protocol::State;

/// Take names away from appliances and images; `prune` removes what nothing leads to then
#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// What `mvm image ls` calls them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Remove what no name leads to and what no machine runs from
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Packages, kernels, programs and unpacked images, too, that mvm's own lock does not lead to; what is wanted again is
    /// fetched or made again
    #[arg(long)]
    cache: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn rm(context: &Context, args: &RmArgs) -> Result<(), Failure> {
    let directories = appliance::directories(context);
    args.names.iter().try_for_each(|name| Ok(images::image::forget(&directories, name)?))
}

pub(super) async fn prune(context: &Context, args: PruneArgs) -> Result<(), Failure> {
    // A machine may start its programs again.
    let tools = args.cache && !is_any_running(context).await?;
    if args.cache && !tools {
        eprintln!("a machine runs: unpacked programs stay");
    }
    let scope = Scope { cache: args.cache, tools, dry_run: args.dry_run };
    let directories = appliance::directories(context);
    let pruned = tokio::task::spawn_blocking(move || prune::prune(&directories, scope)).await??;
    if args.json {
        return print_line(serde_json::to_string(&pruned)?);
    }
    print(Summary(&pruned).to_string())
}

async fn is_any_running(context: &Context) -> Result<bool, Failure> {
    for name in context.home.instances() {
        let found = status::of(&name, &context.home.instance(&name)).await?;
        if found
            .is_some_and(|status| matches!(status.state, State::Starting | State::Ready | State::Stopping))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many of each kind, and how much room they take.
struct Summary<'a>(&'a [Pruned]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<Kind, (usize, u64)> = BTreeMap::new();
        for pruned in self.0 {
            let (count, size) = kinds.entry(pruned.kind).or_default();
            (*count, *size) = (count.saturating_add(1), size.saturating_add(pruned.size));
        }
        let mut all = 0_u64;
        for (kind, (count, size)) in &kinds {
            writeln!(f, "{:<12} {count:>5}   {}", title(*kind), indicatif::BinaryBytes(*size))?;
            all = all.saturating_add(*size);
        }
        writeln!(f, "{:<12} {:>5}   {}", "in all", self.0.len(), indicatif::BinaryBytes(all))
    }
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Content => "contents",
        Kind::Download => "downloads",
        Kind::Package => "packages",
        Kind::Kernel => "kernels",
        Kind::Piece => "unpacked images",
        Kind::Tool => "programs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_and_weighed() {
        let pruned = |kind, size| Pruned { kind, path: "/x".into(), size };
        let all = [pruned(Kind::Content, 1 << 20), pruned(Kind::Content, 3 << 20), pruned(Kind::Tool, 512)];
        let expected =
            "contents         2   4.00 MiB\nprograms         1   512 B\nin all           3   4.00 MiB\n";
        assert_eq!(Summary(&all).to_string(), expected);
        assert_eq!(Summary(&[]).to_string(), "in all           0   0 B\n");
    }
}
