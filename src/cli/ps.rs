//! `mvm ps`: the containers in the guest.

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
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let containers = containers(context).await?.containers(args.all).await.map_err(explain)?;
    if args.json {
        return print_line(serde_json::to_string(&containers)?);
    }
    print(table(&containers))
}

/// The daemon that has them.
pub(super) async fn containers(context: &Context) -> Result<Builder, Failure> {
    let target = Target::of(context).map_err(Failure::usage)?;
    Builder::connect(&target.socket()).await.map_err(explain)
}

fn table(containers: &[Listed]) -> String {
    let rows = containers.iter().map(|one| {
        let platform = one.platform.clone().unwrap_or_else(|| "-".to_owned());
        [one.name.clone(), one.image.clone(), platform, one.status.clone(), one.ports.join(", ")]
    });
    let head = ["NAME", "IMAGE", "PLATFORM", "STATUS", "PORTS"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
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
