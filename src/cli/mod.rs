//! The command line: one file a verb, each with its arguments (`Args`) and `run`.
//!
//! A verb prints results to stdout, progress to stderr, and returns a [`Failure`] that says what failed and with which
//! exit status; only [`main`] prints it.

mod appliance;
pub mod bake;
pub mod build;
mod called;
mod child;
pub mod ci;
pub mod completions;
mod confirm;
pub mod context;
pub mod create;
pub mod dial_stdio;
pub mod doctor;
pub mod down;
mod download;
pub mod du;
pub mod env;
pub mod exec;
pub mod failure;
mod flags;
pub mod history;
pub mod image;
pub mod imagetools;
pub mod inspect;
mod listing;
pub mod logs;
pub mod ls;
pub mod man;
mod nodes;
mod output;
pub(crate) mod progress;
pub mod prune;
pub mod ps;
pub mod rm;
pub mod run;
pub mod shell;
pub(crate) mod size;
pub mod status;
pub mod stop;
pub mod supervise;
mod target;
pub mod tidy;
pub mod up;
pub mod use_builder;
pub mod version;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use failure::Failure;

use crate::builders::Builders;
use crate::instance::{Home, Name, Paths};

/// Boots a small Linux appliance in a virtual machine of its own and builds multi-architecture images in it.
#[derive(Debug, Parser)]
#[command(name = "mvm", version)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 usage, 3 no virtual machine or its connection was lost, 130 Ctrl-C."
)]
struct Cli {
    /// The instance to use, for every verb that does not take its name as an argument [default: what DOCKER_HOST or
    /// BUILDKIT_HOST points at, where the verb speaks to it, else that of `mvm use`, else "default"]
    #[arg(long, global = true, env = "MVM_INSTANCE", value_name = "NAME")]
    instance: Option<Name>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = words::BUILD_TOO)]
    Build(Box<build::Args>),
    Bake(bake::Args),
    Up(up::Args),
    Down(down::Args),
    Run(Box<run::Args>),
    Ps(ps::Args),
    Ci(Box<ci::Args>),
    Imagetools(imagetools::Args),
    History(history::Args),
    Du(du::Args),
    Prune(prune::Args),
    Create(create::Args),
    Use(use_builder::Args),
    Inspect(inspect::Args),
    Stop(stop::Args),
    Context(context::Args),
    Ls(ls::Args),
    Status(status::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Shell(shell::Args),
    Doctor(doctor::Args),
    Env(env::Args),
    Image(image::Args),
    Rm(rm::Args),
    /// Run one virtual machine from plain files, until its guest ends
    #[command(disable_help_flag = true)]
    Vmm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    Version(version::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    DialStdio,
    #[command(hide = true)]
    Tidy,
    #[command(hide = true)]
    Supervise,
}

/// What every verb gets: which instance is meant, and where things lie.
#[derive(Debug)]
pub struct Context {
    pub home: Home,
    pub name: Name,
    /// Whether the user named it, or it is the default.
    pub is_named: bool,
    /// And by --instance itself, which no variable overrules.
    pub is_given: bool,
}

impl Context {
    /// Where the instance that is meant keeps its files and sockets.
    pub fn paths(&self) -> Paths {
        self.home.instance(&self.name)
    }
}

/// Parses the arguments, runs the verb, and turns what it returns into an exit status.
pub fn main() -> ExitCode {
    let command = without_empty_variables(Cli::command());
    let words = words::arranged(&command, std::env::args_os());
    let parsed = flags::matches(command, &words).map_err(|error| words::advised(error, &words));
    let parsed = parsed.and_then(|matches| {
        let is_given = matches.value_source("instance") == Some(ValueSource::CommandLine);
        Ok((Cli::from_arg_matches(&matches)?, is_given))
    });
    let (cli, is_given) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Without the values that nobody has to know of.
            let is_help = |error: &clap::Error| error.kind() == ErrorKind::DisplayHelp;
            let plain = is_help(&error).then(|| Cli::command().try_get_matches().err()).flatten();
            let error = plain.filter(is_help).unwrap_or(error);
            // Whether this is help (0, stdout) or a mistake (2, stderr) clap knows; that its stream is closed is no news.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    match start(cli, is_given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// An empty variable counts as one that is not set, as Docker's client has it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty =
        |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command =
        command.mut_args(|arg| if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

fn start(cli: Cli, is_given: bool) -> Result<(), Failure> {
    let home = Home::from_env()?;
    home.check()?;
    let is_named = cli.instance.is_some();
    let name = cli.instance.or_else(|| in_use(&home)).unwrap_or_default();
    let context = Context { home, is_named, is_given, name };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(dispatch(context, cli.command));
    // A read of the terminal cannot be cancelled; nothing of it is wanted any more.
    runtime.shutdown_background();
    result
}

/// The instance that `mvm use` said, if it was one and is there.
fn in_use(home: &Home) -> Option<Name> {
    // What is wrong with the file is said by the verbs that are about builders.
    let used = Builders::at(home).in_use().ok().flatten();
    used.filter(|name| home.instance(name).config().exists())
}

async fn dispatch(context: Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Build(args) => build::run(&context, *args).await,
        Command::Bake(args) => bake::run(&context, args).await,
        Command::Up(args) => up::run(&context, args).await,
        Command::Down(args) => down::run(&context, args).await,
        Command::Run(args) => run::run(&context, *args).await,
        Command::Ps(args) => ps::run(&context, &args).await,
        Command::Imagetools(args) => imagetools::run(&context, args).await,
        Command::History(args) => history::run(&context, args).await,
        Command::Du(args) => du::run(&context, &args).await,
        Command::Prune(args) => prune::run(&context, &args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Ls(args) => ls::run(&context, &args).await,
        Command::Logs(args) => logs::run(&context, args).await,
        Command::Exec(args) => exec::run(&context, args).await,
        Command::Shell(args) => shell::run(&context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Env(args) => env::run(&context, &args),
        Command::Image(args) => image::run(context, args).await,
        Command::Rm(args) => rm::run(&context, &args).await,
        Command::Create(args) => create::run(&context, args).await,
        Command::Use(args) => use_builder::run(&context, &args),
        Command::Inspect(args) => inspect::run(&context, args).await,
        Command::Context(args) => context::run(&context, args),
        Command::Stop(args) => stop::run(&context, args).await,
        Command::Tidy => tidy::run(&context).await,
        Command::Ci(args) => ci::run(&context, *args).await,
        Command::DialStdio => dial_stdio::run(&context).await,
        // As the first word it does not come here (src/main.rs).
        Command::Vmm { .. } => {
            Err(Failure::usage("vmm has no instance, and has to be the first word: `mvm vmm --help`"))
        }
        Command::Version(args) => version::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Supervise => {
            supervise::run(&context).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, Context};
    use crate::instance::{Config, Home};

    /// Two instances exist: "default", which is meant, and "other".
    pub(super) fn context(directory: &tempfile::TempDir) -> Context {
        let home = Home::below(directory.path());
        for name in ["default", "other"] {
            let paths = home.instance(&name.parse().unwrap());
            std::fs::create_dir_all(paths.directory()).unwrap();
            Config::for_host(1, 0).store(&paths.config()).unwrap();
        }
        Context { home, name: "default".parse().unwrap(), is_named: false, is_given: false }
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
