//! `mvm du`: what the builder's cache holds.

use chrono::{DateTime, Utc};

use super::listing::{Column, Listing};
use super::nodes::{BuilderArg, Nodes};
use super::output::{print, print_line};
use super::{Context, Failure};
use crate::builder::{Filter, Usage};
use crate::printable::human_size;

/// Show what the builder's cache holds
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    builder: BuilderArg,
    /// Only records of this kind, as in type=regular, until=24h (used within it), id=ID, mutable, shared or inuse
    #[arg(long = "filter", value_name = "KEY[=VALUE]")]
    filters: Vec<Filter>,
    /// Everything that is known of each
    #[arg(long, conflicts_with_all = ["json", "format"])]
    verbose: bool,
    #[command(flatten)]
    listing: Listing,
}

/// By the names of `docker buildx du`.
const COLUMNS: &[Column<Usage>] = &[
    Column { name: "ID", head: "ID", of: |record| record.id.as_str().into() },
    Column { name: "Parents", head: "PARENTS", of: |record| record.parents.join(", ").into() },
    Column { name: "CreatedAt", head: "CREATED AT", of: |record| moment(record.created).into() },
    Column { name: "Mutable", head: "MUTABLE", of: |record| record.mutable.into() },
    Column { name: "Reclaimable", head: "RECLAIMABLE", of: |record| record.reclaimable.into() },
    Column { name: "Shared", head: "SHARED", of: |record| record.shared.into() },
    Column { name: "Size", head: "SIZE", of: |record| human_size(record.size).into() },
    Column { name: "Description", head: "DESCRIPTION", of: |record| record.description.as_str().into() },
    Column { name: "UsageCount", head: "USAGE COUNT", of: |record| record.usage_count.into() },
    Column { name: "LastUsedAt", head: "LAST USED AT", of: |record| moment(record.last_used).into() },
    Column { name: "Type", head: "TYPE", of: |record| record.kind.as_str().into() },
];

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let nodes = Nodes::of(context, &args.builder)?;
    let mut all = Vec::new();
    for (node, mut keeper) in nodes.keepers().await? {
        all.push((node, keeper.usage(&args.filters).await?));
    }
    if args.listing.is_json() {
        let mut records = Vec::new();
        for (node, usage) in &all {
            for record in usage {
                records.push(nodes.labelled(node, record)?);
            }
        }
        return print_line(serde_json::Value::from(records));
    }
    if let Some(text) = args.listing.text(COLUMNS, all.iter().flat_map(|(_, usage)| usage))? {
        return print(text);
    }
    let text = |usage: &[Usage]| {
        format!("{}\n{}", if args.verbose { details(usage) } else { table(usage) }, totals(usage))
    };
    let texts = all.iter().map(|(node, usage)| format!("{}{}", nodes.headline(node), text(usage)));
    print(texts.collect::<Vec<_>>().join("\n"))
}

/// A record in a line; what changes under its users is marked.
pub(super) fn row(record: &Usage) -> String {
    let mark = if record.mutable { "*" } else { "" };
    let (size, used) = (human_size(record.size), moment(record.last_used));
    format!("{:<34} {:<11} {size:>9}  {used}", format!("{}{mark}", record.id), record.reclaimable)
}

pub(super) const HEAD: &str = "ID                                 RECLAIMABLE      SIZE  LAST USED";

fn table(usage: &[Usage]) -> String {
    let rows = usage.iter().map(row);
    std::iter::once(HEAD.to_owned()).chain(rows).map(|line| format!("{}\n", line.trim_end())).collect()
}

fn details(usage: &[Usage]) -> String {
    let of = |record: &Usage| {
        let rows = [
            ("ID", record.id.clone()),
            ("Parents", record.parents.join(", ")),
            ("Created", moment(record.created)),
            ("Last used", moment(record.last_used)),
            ("Usage count", record.usage_count.to_string()),
            ("Mutable", record.mutable.to_string()),
            ("Reclaimable", record.reclaimable.to_string()),
            ("Shared", record.shared.to_string()),
            ("Size", human_size(record.size)),
            ("Description", record.description.clone()),
            ("Type", record.kind.clone()),
        ];
        let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
        rows.map(|(key, value)| format!("{key:<12} {value}\n")).collect::<String>()
    };
    usage.iter().map(of).collect::<Vec<_>>().join("\n")
}

fn totals(usage: &[Usage]) -> String {
    let sum = |wanted: fn(&Usage) -> bool| {
        let sizes = usage.iter().filter(|record| wanted(record)).map(|record| record.size);
        human_size(sizes.fold(0, u64::saturating_add))
    };
    let rows = [
        ("Shared", sum(|record| record.shared)),
        ("Private", sum(|record| !record.shared)),
        ("Reclaimable", sum(|record| record.reclaimable)),
        ("Total", sum(|_| true)),
    ];
    rows.map(|(key, size)| format!("{key:<12} {size:>9}\n")).concat()
}

/// To the second, since people look at it.
pub(super) fn moment(time: Option<DateTime<Utc>>) -> String {
    time.map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_marks_what_changes_and_sums_up() {
        let record = |id: &str, size, shared: bool| Usage {
            id: id.to_owned(),
            size,
            reclaimable: !shared,
            mutable: id == "b",
            shared,
            created: None,
            last_used: DateTime::from_timestamp(1_700_000_000, 0),
            usage_count: 1,
            kind: "regular".to_owned(),
            description: String::new(),
            parents: Vec::new(),
        };
        let usage = [record("a", 5_000_000, true), record("b", 1_500, false)];
        assert_eq!(
            table(&usage).lines().skip(1).collect::<Vec<_>>(),
            [
                "a                                  false          5.00MB  2023-11-14 22:13:20",
                "b*                                 true           1.50kB  2023-11-14 22:13:20"
            ]
        );
        assert_eq!(
            totals(&usage),
            "Shared          5.00MB\nPrivate         1.50kB\nReclaimable     1.50kB\nTotal           5.00MB\n"
        );
        assert!(
            details(&usage).contains("ID           b\nLast used    2023-11-14 22:13:20\nUsage count  1\n")
        );
    }
}
