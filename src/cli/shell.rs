//! `mvm shell`: a terminal in the guest.

use super::{Context, Failure, exec};
use crate::terminal;

/// What a terminal of the guest is given of this one's: how it is drawn to.
const PASSED_ON: [&str; 2] = ["TERM", "COLORTERM"];

/// Open a shell in the guest, or run a command in it as a terminal would
///
/// On a terminal it follows the window's size, and keys such as Ctrl-C go to the guest; otherwise it reads its commands from
/// standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: that of the shell; 128 and the signal's number when a signal ended it.")]
pub struct Args {
    /// Inside this service instead of the guest's own root
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Where it starts
    #[arg(long, short, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// A line for the shell, instead of what is typed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let is_terminal = terminal::is_stdin() && terminal::is_stdout();
    let passed_on = PASSED_ON.iter().filter_map(|&key| Some(format!("{key}={}", std::env::var(key).ok()?)));
    let env = passed_on.filter(|_| is_terminal).collect();
    let line = (!args.command.is_empty()).then(|| args.command.join(" "));
    let shell = match line {
        Some(line) => vec!["sh".to_owned(), "-lc".to_owned(), line],
        None => vec!["sh".to_owned(), "-l".to_owned()],
    };
    let program = exec::Program { command: shell, env, workdir: args.workdir, service: args.service };
    exec::run_program(context, program, exec::Attached { stdin: true, terminal: is_terminal }).await
}
