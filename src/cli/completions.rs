//! `mvm completions`: what a shell needs to complete mvm's command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::print;
use super::{Cli, Failure};

/// Print what a shell needs to complete this program's command line
///
/// For bash: mvm completions bash > ~/.local/share/bash-completion/completions/mvm
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mvm", &mut script);
    print(String::from_utf8_lossy(&script))
}
