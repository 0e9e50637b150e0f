//! `mvm man`: the manual's pages, made from what `--help` says.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_mangen::Man;

use super::output::print;
use super::{Cli, Failure};

/// Print the manual, or write a page for each verb
///
/// mvm man | man -l -    shows it; mvm man ~/.local/share/man/man1    puts all pages where `man mvm-build` finds them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write all pages into this directory
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual to {path:?}")]
struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.directory {
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            print(String::from_utf8_lossy(&page))
        }
        Some(directory) => {
            let write = || {
                std::fs::create_dir_all(directory)?;
                clap_mangen::generate_to(Cli::command(), directory)
            };
            Ok(write().map_err(|source| WriteError { path: directory.clone(), source })?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        run(&Args { directory: Some(directory.path().join("man1")) }).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join("man1").join(name));
        for wanted in ["mvm.1", "mvm-history-ls.1", "mvm-image-build.1"] {
            assert!(read(wanted).is_ok(), "{wanted} is missing");
        }
        assert!(read("mvm-supervise.1").is_err(), "what is hidden has none");
        let build = read("mvm-build.1").unwrap();
        assert!(build.contains("\\-\\-cache\\-from") && build.contains(".TH mvm-build 1"), "{build}");
        let nowhere = run(&Args { directory: Some("/dev/null/man".into()) });
        assert!(
            matches!(nowhere, Err(Failure::Failed(cause)) if cause.to_string().contains("/dev/null/man"))
        );
    }
}
