//! `mvm ls`: all instances and builders.

use futures::future::join_all;
use serde::Serialize;

use super::inspect::{self, Seen};
use super::listing::{Column, Listing};
use super::output::{print, print_line};
use super::{Context, Failure, nodes, status};
use crate::builders::Builders;
use crate::instance::Name;
use crate::supervisor::protocol::{State, Status};

/// List the instances, with the platforms that really execute in each, and the builders with their nodes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    listing: Listing,
}

/// An instance, a builder, or a node of one.
#[derive(Default)]
struct Row {
    name: String,
    endpoint: String,
    status: String,
    version: String,
    platforms: Vec<String>,
    problem: String,
}

/// By the names of `docker buildx ls`.
const COLUMNS: &[Column<Row>] = &[
    Column { name: "Name", head: "NAME/NODE", of: |row| row.name.as_str().into() },
    Column { name: "DriverEndpoint", head: "DRIVER/ENDPOINT", of: |row| row.endpoint.as_str().into() },
    Column { name: "Status", head: "STATUS", of: |row| row.status.as_str().into() },
    Column { name: "Buildkit", head: "BUILDKIT", of: |row| row.version.as_str().into() },
    Column { name: "Platforms", head: "PLATFORMS", of: |row| row.platforms.join(", ").into() },
    Column { name: "Error", head: "ERROR", of: |row| row.problem.as_str().into() },
];

/// What buildx calls a node that answers.
const RUNNING: &str = "running";

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let (mut all, mut is_complete) = (Vec::new(), true);
    for name in context.home.instances() {
        let paths = context.home.instance(&name);
        match status::of(&name, &paths).await {
            Ok(Some(mut found)) => {
                status::ask_platforms(&mut found, &paths).await;
                all.push(found);
            }
            Ok(None) => {}
            // One that cannot be told is no reason to hide the others.
            Err(failure) => {
                failure.report();
                is_complete = false;
            }
        }
    }
    let builders = Builders::at(&context.home);
    let (known, are_all) = nodes::all_builders(&builders);
    is_complete &= are_all;
    let seen =
        known.iter().map(|builder| async { (builder.name.clone(), inspect::seen(context, builder).await) });
    let made = join_all(seen).await;
    let used = builders.in_use()?;
    let used = used.filter(|used| all.iter().any(|one| one.name == used.as_str()) || builders.exists(used));
    let used = used.unwrap_or_default();
    if args.listing.is_json() {
        let mut entries: Vec<_> = all.iter().map(|status| entry(&status.name, &used, status)).collect();
        let nodes = |seen: &Vec<Seen>| serde_json::json!({ "nodes": seen });
        entries.extend(made.iter().map(|(name, seen)| entry(name.as_str(), &used, &nodes(seen))));
        let entries: Result<Vec<_>, _> = entries.into_iter().collect();
        print_line(serde_json::Value::from(entries?))?;
    } else {
        let mut rows: Vec<_> = all.iter().map(Row::from).collect();
        for (name, seen) in &made {
            rows.push(Row { name: name.to_string(), ..Row::default() });
            rows.extend(seen.iter().map(Row::from));
        }
        print(args.listing.text(COLUMNS, &rows)?.unwrap_or_else(|| table(&all, &made, &used)))?;
    }
    if is_complete { Ok(()) } else { Err(Failure::Status(1)) }
}

impl From<&Status> for Row {
    fn from(status: &Status) -> Self {
        let state = if status.state == State::Ready { RUNNING } else { status.state.as_str() };
        Self {
            name: status.name.clone(),
            endpoint: status.docker_socket.as_ref().map(|path| format!("unix://{path}")).unwrap_or_default(),
            status: state.to_owned(),
            platforms: working(status).map(str::to_owned).collect(),
            problem: status.reason.clone().unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl From<&Seen> for Row {
    fn from(node: &Seen) -> Self {
        Self {
            name: node.name.to_string(),
            endpoint: node.endpoint.to_string(),
            status: if node.problem.is_none() { RUNNING } else { "error" }.to_owned(),
            version: node.version.clone().unwrap_or_default(),
            platforms: node.platforms.iter().map(|runs| runs.platform.clone()).collect(),
            problem: node.problem.clone().unwrap_or_default(),
        }
    }
}

/// Those that really execute.
fn working(status: &Status) -> impl Iterator<Item = &str> {
    status.platforms.iter().filter(|found| found.works).map(|found| found.platform.as_str())
}

/// An instance or a builder as JSON, with what tells which one is used.
fn entry(name: &str, used: &Name, of: &impl Serialize) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(of)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("name".to_owned(), name.into());
        object.insert("used".to_owned(), (name == used.as_str()).into());
    }
    Ok(value)
}

fn table(all: &[Status], made: &[(Name, Vec<Seen>)], used: &Name) -> String {
    let row = |cells: [&str; 4]| format!("{:<16} {:<9} {:<7} {}", cells[0], cells[1], cells[2], cells[3]);
    let marked = |name: &str| format!("{name}{}", if name == used.as_str() { "*" } else { "" });
    let mut lines = vec![row(["NAME/NODE", "STATE", "ENGINE", "PLATFORMS"])];
    for status in all {
        let working: Vec<_> = working(status).collect();
        let engine = status.engine.as_deref().unwrap_or("-");
        lines.push(row([&marked(&status.name), status.state.as_str(), engine, &working.join(",")]));
    }
    for (name, nodes) in made {
        lines.push(marked(name.as_str()));
        for node in nodes {
            let state = if node.problem.is_none() { "ready" } else { "silent" };
            let platforms: Vec<_> = node.platforms.iter().map(|runs| runs.platform.as_str()).collect();
            lines.push(row([&format!(" \\_ {}", node.name), state, "-", &platforms.join(",")]));
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::instance::Config;
    use crate::supervisor::protocol::{Platform, State, Status};

    #[test]
    fn only_platforms_that_execute_are_listed() {
        let platform =
            |name: &str, works| Platform { platform: name.into(), works, emulator: None, reason: None };
        let mut ready = Status::new(&"default".parse().unwrap(), State::Ready, Config::for_host(1, 0));
        ready.engine = Some("tcg".into());
        ready.platforms =
            vec![platform("linux/amd64", true), platform("linux/arm64", false), platform("linux/386", true)];
        let stopped = Status::new(&"ci".parse().unwrap(), State::Stopped, Config::for_host(1, 0));
        let used = "ci".parse().unwrap();
        assert_eq!(
            table(&[ready, stopped], &[("many".parse().unwrap(), Vec::new())], &used),
            "NAME/NODE        STATE     ENGINE  PLATFORMS\n\
             default          ready     tcg     linux/amd64,linux/386\n\
             ci*              stopped   -\n\
             many\n"
        );
    }
}
