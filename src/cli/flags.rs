//! Flags as Docker's clients have them, which scripts rely on: `--push=false` is one that is not given, and what is said twice counts
//! as it was said last.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::builder::truth;

/// What the words mean to a command.
pub(super) fn matches(
    mut command: Command,
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<ArgMatches, clap::Error> {
    let matches = with_values(command.clone()).try_get_matches_from(words)?;
    command.build();
    conflict(&command, &matches).map_or(Ok(matches), Err)
}

/// Its flags take a value; what excludes another argument is left to [`conflict`], which looks at it.
fn with_values(command: Command) -> Command {
    let flag = |arg: Arg| {
        let arg = arg.conflicts_with(Resettable::Reset);
        match arg.get_action() {
            ArgAction::SetTrue => {
                let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true);
                arg.default_value("false").default_missing_value("true").value_parser(truth)
            }
            _ => arg,
        }
    };
    command.args_override_self(true).mut_args(flag).mut_subcommands(with_values)
}

/// Two arguments of which only one may be given.
fn conflict(command: &Command, matches: &ArgMatches) -> Option<clap::Error> {
    let is_given = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let is_off = || matches!(arg.get_action(), ArgAction::SetTrue) && !matches.get_flag(id);
        matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
            && !is_off()
    };
    for arg in command.get_arguments().filter(is_given) {
        if let Some(other) = command.get_arg_conflicts_with(arg).into_iter().find(is_given) {
            let text = format!("the argument '{arg}' cannot be used with '{other}'");
            return Some(command.clone().error(ErrorKind::ArgumentConflict, text));
        }
    }
    let (name, inner) = matches.subcommand()?;
    conflict(command.find_subcommand(name)?, inner)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::Cli;

    fn parsed(words: &[&str]) -> Result<String, String> {
        let words = ["mvm"].iter().chain(words);
        let matches = matches(Cli::command(), words).map_err(|error| error.to_string())?;
        Ok(format!("{:?}", Cli::from_arg_matches(&matches).unwrap().command))
    }

    #[test]
    fn a_command_with_values_is_consistent() {
        with_values(Cli::command()).debug_assert();
    }

    #[test]
    fn flags_have_values_and_the_last_word_counts() {
        let build = |words: &[&str]| parsed(&[&["build", "."], words].concat());
        let both = |one: &[&str], other: &[&str]| assert_eq!(build(one).unwrap(), build(other).unwrap());
        both(&["--push=false", "--pull=0", "-q=F"], &[]);
        both(&["--push=true", "--no-cache=1"], &["--push", "--no-cache"]);
        both(&["--push", "--push=false", "--push"], &["--push"]);
        both(&["--progress", "plain", "--progress=quiet"], &["--progress", "quiet"]);
        assert_ne!(build(&["--push"]).unwrap(), build(&[]).unwrap());
        let wrong = build(&["--push=maybe"]).unwrap_err();
        assert!(wrong.contains("\"maybe\" is neither true nor false"), "{wrong}");
    }

    #[test]
    fn what_is_not_given_excludes_nothing() {
        for words in [
            &["build", ".", "--check=false", "--call", "outline"][..],
            &["build", ".", "--no-cache=false", "--no-cache-filter", "x"],
            &["du", "--verbose", "--json=false"],
            &["ls", "--json=false", "--format", "json"],
            &["rm", "web", "--all-inactive=false"],
        ] {
            parsed(words).unwrap();
        }
        for (words, told) in [
            (&["build", ".", "--check", "--call", "outline"][..], "'--check' cannot be used with '--call"),
            (&["build", ".", "--no-cache-filter", "x", "--no-cache"], "cannot be used with '--no-cache'"),
            (&["imagetools", "inspect", "x", "--raw", "--json"], "'--json' cannot be used with '--raw'"),
            (&["history", "ls", "--json", "--format", "json"], "cannot be used with '--"),
            (&["du", "--verbose", "--format", "json"], "cannot be used with '--"),
            (&["rm", "web", "--all-inactive"], "cannot be used with '"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(told) && error.contains("Usage: mvm "), "{error}");
        }
    }
}
