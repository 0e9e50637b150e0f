//! `mvm ps`: the containers in the guest.

use super::listing::{self, Column, Listing};
use super::output::{print, print_line};
use super::run::explain;
use super::target::Target;
use super::{Context, Failure};
use crate::docker::{Builder, Listed};

/// List the containers that run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,
    /// Nothing but their ids
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    quiet: bool,
    #[command(flatten)]
    listing: Listing,
}

/// By the names of `docker ps`, as far as they are known here.
const COLUMNS: &[Column<Listed>] = &[
    Column { name: "ID", head: "CONTAINER ID", of: |one| short(one).into() },
    Column { name: "Names", head: "NAMES", of: |one| one.name.as_str().into() },
    Column { name: "Image", head: "IMAGE", of: |one| one.image.as_str().into() },
    Column { name: "Platform", head: "PLATFORM", of: |one| platform(one).into() },
    Column { name: "Command", head: "COMMAND", of: |one| format!("{:?}", one.command).into() },
    Column { name: "State", head: "STATE", of: |one| one.state.as_str().into() },
    Column { name: "Status", head: "STATUS", of: |one| one.status.as_str().into() },
    Column { name: "Ports", head: "PORTS", of: |one| one.ports.join(", ").into() },
];

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let containers = containers(context).await?.containers(args.all).await.map_err(explain)?;
    if args.quiet {
        return print(containers.iter().map(|one| format!("{}\n", short(one))).collect::<String>());
    }
    if args.listing.is_json() {
        return print_line(serde_json::to_string(&containers)?);
    }
    print(args.listing.text(COLUMNS, &containers)?.unwrap_or_else(|| table(&containers)))
}

/// The daemon that has them.
pub(super) async fn containers(context: &Context) -> Result<Builder, Failure> {
    let target = Target::of(context).map_err(Failure::usage)?;
    Builder::connect(&target.socket()).await.map_err(explain)
}

/// Of its id what Docker's clients show.
fn short(one: &Listed) -> &str {
    one.id.get(..12).unwrap_or(&one.id)
}

fn platform(one: &Listed) -> &str {
    one.platform.as_deref().unwrap_or("-")
}

fn table(containers: &[Listed]) -> String {
    let head = ["NAME", "IMAGE", "PLATFORM", "STATUS", "PORTS"].map(str::to_owned).to_vec();
    let row = |one: &Listed| {
        vec![
            one.name.clone(),
            one.image.clone(),
            platform(one).to_owned(),
            one.status.clone(),
            one.ports.join(", "),
        ]
    };
    listing::aligned(&std::iter::once(head).chain(containers.iter().map(row)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let container = Listed {
            id: "abc".into(),
            name: "a-long-name".into(),
            image: "demo".into(),
            platform: Some("linux/arm64".into()),
            command: "sh".into(),
            state: "running".into(),
            status: "Up 3 seconds".into(),
            ports: vec!["127.0.0.1:5000->80/tcp".into()],
        };
        assert_eq!(
            table(&[container]),
            "NAME         IMAGE  PLATFORM     STATUS        PORTS\n\
             a-long-name  demo   linux/arm64  Up 3 seconds  127.0.0.1:5000->80/tcp\n"
        );
        assert_eq!(table(&[]), "NAME  IMAGE  PLATFORM  STATUS  PORTS\n");
    }
}
