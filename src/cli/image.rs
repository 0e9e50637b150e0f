//! `mvm image`: the appliances themselves.

use std::path::PathBuf;

use images::{Appliance, DEFAULT_REFERENCE, Pins, Source, Store};

use super::{Context, Failure, appliance, progress};
use crate::supervisor::programs;

/// Make, pin and list appliances
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the appliance of a linuxkit.yml, and unpack what this machine lacks to run it; nothing is made anew when
    /// nothing has changed
    Build {
        /// The linuxkit.yml [default: the one that this mvm carries]
        file: Option<PathBuf>,
        /// The name under which it is kept
        #[arg(long, default_value = DEFAULT_REFERENCE)]
        name: String,
        /// When a pinned package is gone from its mirror, pin all of them anew and say what changed
        #[arg(long)]
        relock: bool,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Pin every package to what the mirrors have now
    Lock {
        /// The linuxkit.yml [default: the one that this mvm carries]
        file: Option<PathBuf>,
    },
    /// Show the appliance that `mvm up` boots
    Ls {
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(context: Context, args: Args) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || match args.command {
        Command::Build { file, name, relock, json } => build(&context, file, &name, relock, json),
        Command::Lock { file } => lock(&context, file),
        Command::Ls { json } => list(&context, json),
    });
    tokio::select! {
        done = work => done?,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    }
}

fn source(file: Option<PathBuf>) -> Source {
    file.map_or(Source::Embedded, Source::File)
}

fn build(
    context: &Context,
    file: Option<PathBuf>,
    name: &str,
    relock: bool,
    json: bool,
) -> Result<(), Failure> {
    let pins = if relock { Pins::RelockIfGone } else { Pins::Exact };
    let progress = progress::to_stderr();
    let directories = appliance::directories(context);
    programs::qemu(&directories, pins, progress.as_ref())?;
    programs::passt(&directories, pins, progress.as_ref())?;
    let made = appliance::build(&directories, source(file), pins, name, progress.as_ref())?;
    if json {
        println!("{}", as_json(name, &made));
    } else {
        println!("{name} {}", made.digest);
    }
    Ok(())
}

fn lock(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let progress = progress::to_stderr();
    let changes = images::lock(&source(file), &appliance::directories(context), progress.as_ref())?;
    for change in changes.0 {
        println!("{change}");
    }
    Ok(())
}

fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let found = Store::open(&appliance::directories(context).images())?.find(DEFAULT_REFERENCE)?;
    let rows: Vec<(&str, Appliance)> = found.into_iter().map(|found| (DEFAULT_REFERENCE, found)).collect();
    if json {
        let all: Vec<_> = rows.iter().map(|(name, made)| as_json(name, made)).collect();
        println!("{}", serde_json::to_string(&all)?);
    } else {
        rows.iter().for_each(|(name, made)| println!("{name} {}", made.digest));
    }
    Ok(())
}

/// What `--json` tells of an appliance: also where its parts lie, for whoever boots it by other means.
fn as_json(name: &str, made: &Appliance) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "digest": made.digest,
        "kernel": made.kernel,
        "root": made.root,
        "cmdline": made.cmdline,
    })
}
