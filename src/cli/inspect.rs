//! `mvm inspect`: a builder and its nodes.

use serde::Serialize;

use super::nodes::{self, Nodes};
use super::output::{print, print_line};
use super::{Context, Failure, up};
use crate::builder::Worker;
use crate::builders::{Address, Builder, Node};
use crate::chain::Chain;
use crate::instance::Name;

/// Show a builder: its nodes, whether they answer, and what each builds
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The builder, or an instance [default: the one in use]
    name: Option<Name>,
    /// Start what is not running, and wait for it
    #[arg(long)]
    bootstrap: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("node {node} does not answer: {why}")]
struct Silent {
    node: Name,
    why: String,
}

/// A node as it is now.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub(super) name: Name,
    pub(super) endpoint: Address,
    /// Why it does not answer, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
    /// Of its BuildKit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    pub(super) platforms: Vec<Runs>,
}

/// A platform that a node builds for.
#[derive(Debug, Serialize)]
pub(super) struct Runs {
    pub(super) platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    emulator: Option<String>,
    /// It is to be built there before all others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    told: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let name = nodes::or_used(context, args.name)?;
    let builder = nodes::find(context, &name).map_err(Failure::usage)?;
    if args.bootstrap {
        bootstrap(context, &builder).await?;
    }
    let seen = seen(context, &builder).await;
    if args.json {
        return print_line(serde_json::json!({ "name": builder.name, "nodes": seen }));
    }
    print(format_args!("Name:        {}\nNodes:\n{}", builder.name, text(&seen)))
}

/// All nodes of a builder, asked at the same time.
pub(super) async fn seen(context: &Context, builder: &Builder) -> Vec<Seen> {
    let nodes = Nodes::of_builder(context, builder.clone());
    let workers = nodes.workers(true).await;
    builder.nodes.iter().zip(workers).map(|(node, worker)| Seen::of(node, worker)).collect()
}

impl Seen {
    fn of(node: &Node, worker: Result<Worker, String>) -> Self {
        let (known, version, problem) = match worker {
            Ok(worker) => (worker.platforms, Some(worker.version), None),
            Err(why) => (Vec::new(), None, Some(why)),
        };
        let version = version.filter(|version| !version.is_empty());
        let told = |platform: &_| node.platforms.contains(platform);
        let mut platforms: Vec<_> = node
            .platforms
            .iter()
            .filter(|&told| !known.iter().any(|known| known.platform == *told))
            .map(|platform| Runs { platform: platform.to_string(), emulator: None, told: true })
            .collect();
        platforms.extend(known.iter().filter(|known| known.broken.is_none()).map(|known| Runs {
            platform: known.platform.to_string(),
            emulator: known.emulator.clone(),
            told: told(&known.platform),
        }));
        Self { name: node.name.clone(), endpoint: node.address.clone(), problem, version, platforms }
    }
}

fn text(seen: &[Seen]) -> String {
    let node = |node: &Seen| {
        let mut rows = vec![
            ("Name", node.name.to_string()),
            ("Endpoint", node.endpoint.to_string()),
            ("Status", node.problem.clone().unwrap_or_else(|| "running".to_owned())),
        ];
        rows.extend(node.version.clone().map(|version| ("BuildKit", version)));
        rows.extend(node.platforms.iter().map(|runs| {
            let told = if runs.told { "*" } else { "" };
            let by = runs.emulator.as_ref().map(|emulator| format!(" by {emulator}")).unwrap_or_default();
            ("Platform", format!("{}{told}{by}", runs.platform))
        }));
        rows.iter().map(|(key, value)| format!("  {:<10} {value}\n", format!("{key}:"))).collect::<String>()
    };
    seen.iter().map(node).collect::<Vec<_>>().join("\n")
}

/// Starts each node that can be, one after the other, and waits until all answer.
pub(super) async fn bootstrap(context: &Context, builder: &Builder) -> Result<(), Failure> {
    for node in &builder.nodes {
        match &node.address {
            Address::Instance(name) => drop(up::ready(context, name, &up::Args::default()).await?),
            Address::Ssh(there) => nodes::run_there(node, &there.command(&["up"])).await?,
            Address::Unix(_) | Address::Tcp(_) => {
                let asked = Worker::at(&node.endpoint(&context.home)).await;
                asked.map_err(|error| {
                    let why = Chain(&error).to_string();
                    Failure::no_machine(Silent { node: node.name.clone(), why })
                })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::builder::Known;

    #[test]
    fn a_node_tells_what_it_builds_and_by_what() {
        let mut node = Builder::of("far".parse().unwrap(), "tcp://h:1".parse().unwrap()).nodes.remove(0);
        node.platforms = vec!["linux/arm64".parse().unwrap(), "linux/s390x".parse().unwrap()];
        let known = |platform: &str, emulator: Option<&str>| Known {
            platform: platform.parse().unwrap(),
            broken: None,
            emulator: emulator.map(str::to_owned),
        };
        let known = vec![known("linux/amd64", None), known("linux/arm64", Some("qemu 10"))];
        let seen = [
            Seen::of(&node, Ok(Worker { version: "v1".to_owned(), platforms: known })),
            Seen::of(&node, Err("gone".to_owned())),
        ];
        assert_eq!(
            text(&seen),
            "  Name:      far\n  Endpoint:  tcp://h:1\n  Status:    running\n  BuildKit:  v1\n  \
             Platform:  linux/s390x*\n  Platform:  linux/amd64\n  Platform:  linux/arm64* by qemu 10\n\n  \
             Name:      far\n  Endpoint:  tcp://h:1\n  Status:    gone\n  \
             Platform:  linux/arm64*\n  Platform:  linux/s390x*\n"
        );
    }
}
