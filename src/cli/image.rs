//! `mvm image`: the appliances themselves.

use std::path::{Path, PathBuf};

use images::{Appliance, DEFAULT_REFERENCE, Pins, Source, Store};

use super::output::{print, print_line};
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
        /// The name under which it is kept, for `mvm up --image` [default: the file's, without .yml]
        #[arg(long, requires = "file")]
        name: Option<String>,
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
    /// Show the appliances that there are
    Ls {
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(context: Context, args: Args) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || match args.command {
        Command::Build { file, name, relock, json } => build(&context, file, name, relock, json),
        Command::Lock { file } => lock(&context, file),
        Command::Ls { json } => list(&context, json),
    });
    tokio::select! {
        done = work => done?,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    }
}

/// An argument that clap lets through and that cannot be meant.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("{DEFAULT_REFERENCE} is the appliance that this mvm carries and makes; give another --name")]
    Reserved,
    #[error("{} has no name that an appliance could have; give one with --name", .0.display())]
    NoName(PathBuf),
}

/// The name of an appliance: of the one that this mvm carries, or one that says from which file it was made.
fn reference(file: Option<&Path>, name: Option<String>) -> Result<String, UsageError> {
    match (file, name) {
        (_, Some(name)) if name == DEFAULT_REFERENCE => Err(UsageError::Reserved),
        (_, Some(name)) => Ok(name),
        (None, None) => Ok(DEFAULT_REFERENCE.to_owned()),
        (Some(file), None) => match file.file_stem().and_then(|stem| stem.to_str()) {
            Some(stem) => Ok(stem.to_owned()),
            None => Err(UsageError::NoName(file.to_owned())),
        },
    }
}

fn source(file: Option<PathBuf>) -> Source {
    file.map_or(Source::Embedded, Source::File)
}

fn build(
    context: &Context,
    file: Option<PathBuf>,
    name: Option<String>,
    relock: bool,
    json: bool,
) -> Result<(), Failure> {
    let name = reference(file.as_deref(), name).map_err(Failure::usage)?;
    let pins = if relock { Pins::RelockIfGone } else { Pins::Exact };
    let progress = progress::to_stderr();
    let directories = appliance::directories(context);
    programs::qemu(&directories, pins, progress.as_ref())?;
    programs::passt(&directories, pins, progress.as_ref())?;
    let made = appliance::build(&directories, source(file), pins, &name, progress.as_ref())?;
    if json {
        print_line(as_json(&name, &made))?;
    } else {
        print_line(format_args!("{name} {}", made.digest))?;
    }
    if name != DEFAULT_REFERENCE {
        eprintln!("`mvm up --image {name}` boots it");
    }
    Ok(())
}

fn lock(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let progress = progress::to_stderr();
    let changes = images::lock(&source(file), &appliance::directories(context), progress.as_ref())?;
    for change in changes.0 {
        print_line(change)?;
    }
    Ok(())
}

fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let rows = Store::open(&appliance::directories(context).images())?.list()?;
    if json {
        let all: Vec<_> = rows.iter().map(|(name, made)| as_json(name, made)).collect();
        print_line(serde_json::to_string(&all)?)?;
    } else {
        print(rows.iter().map(|(name, made)| format!("{name} {}\n", made.digest)).collect::<String>())?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use images::DEFAULT_REFERENCE;

    use super::reference;

    #[test]
    fn what_is_made_of_a_file_never_takes_the_place_of_what_mvm_up_makes() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(reference(None, None).unwrap(), DEFAULT_REFERENCE);
        assert_eq!(reference(Some(Path::new("dir/my.yml")), None).unwrap(), "my");
        assert_eq!(reference(Some(Path::new("my.yml")), named("other")).unwrap(), "other");
        assert!(reference(Some(Path::new("my.yml")), named(DEFAULT_REFERENCE)).is_err());
        let error = reference(Some(Path::new("..")), None).unwrap_err().to_string();
        assert_eq!(error, ".. has no name that an appliance could have; give one with --name");
    }
}
