//! `mvm completions`: what a shell needs to complete mvm's command line.

use clap::{Command, CommandFactory};
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
    clap_complete::generate(args.shell, &mut visible(), "mvm", &mut script);
    print(String::from_utf8_lossy(&script))
}

/// The command line without the verbs that are mvm's own, which clap would complete as well.
fn visible() -> Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    // With a version it has the flag for it, too.
    let visible = Command::new("mvm").version(env!("CARGO_PKG_VERSION"));
    visible.args(all.get_arguments().cloned()).subcommands(verbs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "mvm", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("imagetools") && script.contains("cache-from"), "{shell}: {script}");
            assert!(shell != Shell::Bash || script.contains(" -V "), "the version's flag: {script}");
            for hidden in ["supervise", "dial-stdio"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
        }
    }
}
