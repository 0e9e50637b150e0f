//! `mvm history`: the builds that the builder remembers.

use console::truncate_str;

use super::du::moment;
use super::listing::{Column, Listing};
use super::nodes::{BuilderArg, Nodes};
use super::output::{print, print_line};
use super::{Context, Failure};
use crate::builder::progress::{Display, Plain, RawJson};
use crate::builder::{KeepError, Keeper, Past, PastFilter, PastState};
use crate::builders::Node;

/// Of a value that is shown; `--json` has all of it.
const LONGEST: usize = 100;

/// Look at the builds that the builder remembers
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    builder: BuilderArg,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them, the newest first
    Ls {
        /// Only those of which this is so: ref=, repository=, status= (or !=), startedAt>, completedAt>, duration> (or <)
        #[arg(long = "filter", value_name = "KEY=VALUE | KEY>VALUE")]
        filters: Vec<PastFilter>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what is known of one
    Inspect {
        /// Its name, as much of it as no other begins with, or ^N for the Nth before the newest [default: the newest]
        #[arg(value_name = "BUILD")]
        build: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show its progress again
    Logs {
        /// Its name, as much of it as no other begins with, or ^N for the Nth before the newest [default: the newest]
        #[arg(value_name = "BUILD")]
        build: Option<String>,
        /// How: lines, or the builder's own reports
        #[arg(long, value_enum, value_name = "STYLE", default_value = "plain")]
        progress: Style,
        /// The same as --progress rawjson: one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Forget some, or all
    Rm {
        /// Their names, as much of each as no other begins with, or ^N
        #[arg(value_name = "BUILD")]
        builds: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "builds")]
        all: bool,
    },
}

/// By the names of `docker buildx history ls`, and what else there may be of a build.
const COLUMNS: &[Column<Past>] = &[
    Column { name: "Ref", head: "BUILD ID", of: |past| past.id.as_str().into() },
    Column { name: "Name", head: "NAME", of: |past| past.name.as_str().into() },
    Column { name: "Status", head: "STATUS", of: |past| title(past.status).into() },
    Column { name: "CreatedAt", head: "CREATED AT", of: |past| moment(past.created).into() },
    Column { name: "CompletedAt", head: "COMPLETED AT", of: |past| moment(past.completed).into() },
    Column { name: "Duration", head: "DURATION", of: |past| took(past).into() },
    Column { name: "Digest", head: "DIGEST", of: |past| past.digest.clone().unwrap_or_default().into() },
    Column { name: "Error", head: "ERROR", of: |past| past.error.clone().unwrap_or_default().into() },
];

/// How progress is shown that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    Plain,
    Rawjson,
}

#[derive(Debug, thiserror::Error)]
#[error("the builder remembers no build")]
struct Nothing;

#[derive(Debug, thiserror::Error)]
#[error("the builder does not remember so many builds: there is no {0}")]
struct NotSoMany(String);

#[derive(Debug, thiserror::Error)]
#[error("name the builds to forget; --all is all of them")]
struct NoneNamed;

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let nodes = Nodes::of(context, &args.builder)?;
    let mut keepers = Keepers(nodes.keepers().await?);
    match args.verb {
        Verb::Ls { filters, listing } => {
            let mut all = keepers.history().await?;
            all.retain(|(_, past)| filters.iter().all(|filter| filter.matches(past)));
            if listing.is_json() {
                let labelled = all.iter().map(|(node, past)| nodes.labelled(node, past));
                return print_line(serde_json::Value::from(labelled.collect::<Result<Vec<_>, _>>()?));
            }
            let own = || {
                let of = |node: &Node| nodes.are_several().then(|| node.name.to_string());
                table(all.iter().map(|(node, past)| (of(node), past)))
            };
            print(listing.text(COLUMNS, all.iter().map(|(_, past)| past))?.unwrap_or_else(own))
        }
        Verb::Inspect { build, json } => {
            let (_, past) = keepers.meant(build).await?;
            if json { print_line(serde_json::to_string_pretty(&past)?) } else { print(details(&past)) }
        }
        Verb::Logs { build, progress, json } => {
            let json = json || progress == Style::Rawjson;
            let (keeper, past) = keepers.meant(build).await?;
            let stdout = std::io::stdout();
            let mut display: Box<dyn Display> =
                if json { Box::new(RawJson::new(stdout)) } else { Box::new(Plain::new(stdout)) };
            // What programs read is as the builder has it.
            let by_step = past.status != PastState::Running && !json;
            Ok(keeper.replay(&past.id, by_step, display.as_mut()).await?)
        }
        Verb::Rm { builds, all } => {
            if builds.is_empty() && !all {
                return Err(Failure::usage(NoneNamed));
            }
            let mut found = Vec::new();
            for (_, keeper) in keepers.0.iter_mut().filter(|_| all) {
                found.extend(keeper.history().await?.into_iter().map(|past| (keeper.clone(), past)));
            }
            // All are found before the first goes.
            for build in builds {
                let (keeper, past) = keepers.meant(Some(build)).await?;
                found.push((keeper.clone(), past));
            }
            for (mut keeper, past) in found {
                keeper.forget(&past.id).await?;
            }
            Ok(())
        }
    }
}

/// What the nodes remember.
struct Keepers<'a>(Vec<(&'a Node, Keeper)>);

impl<'a> Keepers<'a> {
    /// The newest first.
    async fn history(&mut self) -> Result<Vec<(&'a Node, Past)>, Failure> {
        let mut all = Vec::new();
        for (node, keeper) in &mut self.0 {
            all.extend(keeper.history().await?.into_iter().map(|past| (*node, past)));
        }
        all.sort_by_key(|(_, past)| std::cmp::Reverse(past.created));
        Ok(all)
    }

    /// The build of that name, or so many before the newest of all; with the node that remembers it.
    async fn meant(&mut self, build: Option<String>) -> Result<(&mut Keeper, Past), Failure> {
        let back = build.as_ref().and_then(|name| name.strip_prefix('^')?.parse::<usize>().ok());
        let name = match (build, back) {
            (Some(name), None) => name,
            (Some(name), Some(back)) => {
                let past = self.history().await?.into_iter().nth(back);
                past.ok_or_else(|| Failure::usage(NotSoMany(name)))?.1.id
            }
            (None, _) => self.history().await?.into_iter().next().ok_or(Nothing)?.1.id,
        };
        let (mut missing, mut found) = (None, Vec::new());
        for (_, keeper) in &mut self.0 {
            match keeper.build(&name).await {
                Ok(past) => found.push((keeper, past)),
                Err(error @ KeepError::NoBuild(_)) => missing = Some(error),
                Err(error) => return Err(usage(error)),
            }
        }
        // One that is named whole is no other's beginning.
        let whole = found.iter().position(|(_, past)| past.id == name);
        match (whole, found.len()) {
            (Some(place), _) => Ok(found.swap_remove(place)),
            (None, 0) => Err(missing.map_or_else(|| Nothing.into(), usage)),
            (None, 1) => Ok(found.swap_remove(0)),
            (None, _) => Err(usage(KeepError::Ambiguous(name))),
        }
    }
}

fn usage(error: KeepError) -> Failure {
    match error {
        KeepError::NoBuild(_) | KeepError::Ambiguous(_) => Failure::usage(error),
        KeepError::Endpoint(_) => Failure::no_machine(error),
        KeepError::Refused(_) | KeepError::Endless => Failure::from(error),
    }
}

/// Each build with its node, where there are several.
fn table<'a>(builds: impl Iterator<Item = (Option<String>, &'a Past)>) -> String {
    let line = |id: &str, status: &str, created: &str, took: &str, name: &str| {
        format!("{id:<26} {status:<10} {created:<20} {took:>9}  {name}").trim_end().to_owned() + "\n"
    };
    let mut text = line("BUILD", "STATUS", "CREATED", "TOOK", "NAME");
    for (node, past) in builds {
        let name = node.map_or_else(|| past.name.clone(), |node| format!("[{node}] {}", past.name));
        text.push_str(&line(&past.id, past.status.as_str(), &moment(past.created), &took(past), &name));
    }
    text
}

/// As buildx writes it.
fn title(status: PastState) -> String {
    let mut letters = status.as_str().chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn took(past: &Past) -> String {
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    past.took_ms.map(seconds).unwrap_or_default()
}

fn details(past: &Past) -> String {
    let mut rows = vec![
        ("Build", past.id.clone()),
        ("Name", past.name.clone()),
        ("Status", past.status.as_str().to_owned()),
        ("Digest", past.digest.clone().unwrap_or_default()),
        ("Created", moment(past.created)),
        ("Took", took(past)),
        ("Steps", format!("{}, of which {} were cached", past.steps, past.cached_steps)),
        ("Warnings", past.warnings.to_string()),
        ("Error", past.error.clone().unwrap_or_default()),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    let mut text: String = rows.iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect();
    for (title, values) in [("Attributes", &past.attributes), ("Result", &past.response)] {
        if !values.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            let line = |(key, value): (&String, &String)| {
                format!("  {key} = {}\n", truncate_str(value, LONGEST, "…"))
            };
            text.extend(values.iter().map(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn builds_are_listed_with_what_became_of_them() {
        let past = Past {
            id: "abc".to_owned(),
            name: "docker.io/library/x:1".to_owned(),
            status: PastState::Completed,
            digest: None,
            created: DateTime::from_timestamp(1_700_000_000, 0),
            completed: None,
            took_ms: Some(12_345),
            steps: 5,
            cached_steps: 2,
            warnings: 0,
            pinned: false,
            error: None,
            attributes: [("target".to_owned(), "t".to_owned())].into(),
            response: [].into(),
        };
        let table = table([(None, &past), (Some("far".to_owned()), &past)].into_iter());
        let wanted =
            "abc                        completed  2023-11-14 22:13:20     12.3 s  docker.io/library/x:1";
        assert_eq!(table.lines().nth(1), Some(wanted));
        assert!(table.ends_with("  [far] docker.io/library/x:1\n"), "{table}");
        let details = details(&past);
        assert!(details.contains("Steps      5, of which 2 were cached\n"), "{details}");
        assert!(details.ends_with("\nAttributes\n  target = t\n"), "{details}");
    }
}
