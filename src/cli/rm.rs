//! `mvm rm`: removes an instance and everything on its disk.

use super::{Context, Failure};
use crate::instance::{Lock, Name, runtime_dir};

/// Remove a stopped instance, with its disk, images and build cache
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance
    name: Name,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no instance is named {0}; `mvm ls` shows which there are")]
    Unknown(Name),
    #[error("cannot remove {path}: {source}")]
    Remove { path: String, source: std::io::Error },
}

pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let paths = context.home.instance(&args.name);
    if !paths.directory().exists() {
        return Err(Error::Unknown(args.name.clone()).into());
    }
    runtime_dir::prepare(paths.runtime())?;
    let _lock = Lock::take(&paths)?;
    for directory in [paths.runtime(), paths.directory()] {
        std::fs::remove_dir_all(directory)
            .map_err(|source| Error::Remove { path: directory.display().to_string(), source })?;
    }
    eprintln!("{} is removed", args.name);
    Ok(())
}
