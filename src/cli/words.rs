//! The words of a command line, put as they are parsed: scripts that were written for Docker's clients go on as they are.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::build;

/// The verb whose options scripts leave empty, as in `--output "$OUT"`.
const BUILD: &str = "build";

/// `--builder NAME VERB` means `VERB --builder NAME`, and an option of `build` with an empty value is one that is not given.
pub(super) fn arranged(command: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let (mut arranged, mut builder): (Vec<_>, Vec<_>) = (words.next().into_iter().collect(), Vec::new());
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--builder") => builder.extend([Some(word), words.next()].into_iter().flatten()),
            Some(text) if text.starts_with("--builder=") => builder.push(word),
            Some("--instance") => arranged.extend([Some(word), words.next()].into_iter().flatten()),
            Some(text) if text.starts_with('-') => arranged.push(word),
            _ => {
                let verb = word.to_str().and_then(|name| command.find_subcommand(name));
                arranged.push(word);
                arranged.append(&mut builder);
                match verb.filter(|verb| verb.get_name() == BUILD) {
                    Some(verb) => arranged.extend(without_empty(verb, words.by_ref())),
                    None => arranged.extend(words.by_ref()),
                }
            }
        }
    }
    arranged.extend(builder);
    arranged
}

fn without_empty(verb: &Command, mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let is_called = |arg: &Arg, word: &str| {
        let long = word.strip_prefix("--").is_some_and(|word| arg.get_long() == Some(word));
        long || word
            .strip_prefix('-')
            .is_some_and(|word| arg.get_short().is_some_and(|short| *word == *short.to_string()))
    };
    let takes_value =
        |word: &str| verb.get_arguments().any(|arg| arg.get_action().takes_values() && is_called(arg, word));
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--") => {
                kept.push(word);
                kept.extend(words.by_ref());
            }
            Some(text) if text.strip_suffix('=').is_some_and(takes_value) => {}
            Some(text) if takes_value(text) => {
                let value = words.next();
                if !value.as_ref().is_some_and(|value| value.is_empty()) {
                    kept.push(word);
                    kept.extend(value);
                }
            }
            _ => kept.push(word),
        }
    }
    kept
}

/// With what to do instead, where `build` is given an option that only others have.
pub(super) fn advised(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let is_build = words.iter().any(|word| word == BUILD);
    if error.kind() == ErrorKind::UnknownArgument
        && is_build
        && let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && let Some(instead) = build::instead_of(option)
    {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![instead.to_owned().into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::{Cli, flags};

    fn put(words: &[&str]) -> Vec<String> {
        let words = ["mvm"].iter().chain(words).map(OsString::from);
        let arranged = arranged(&Cli::command(), words);
        arranged.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_builder_may_stand_before_the_verb() {
        let wanted = ["--instance", "a", "du", "--builder", "many", "--json"];
        assert_eq!(put(&["--instance", "a", "--builder", "many", "du", "--json"]), wanted);
        assert_eq!(put(&["--builder=many", "history", "ls"]), ["history", "--builder=many", "ls"]);
        assert_eq!(put(&["--builder", "many"]), ["--builder", "many"]);
        assert_eq!(put(&["run", "--rm", "x", "--builder", "y"]), ["run", "--rm", "x", "--builder", "y"]);
    }

    #[test]
    fn what_is_empty_was_not_given() {
        let given = ["build", "-o", "", "--secret=", "--file", "", "-t", "x", "--push", "."];
        assert_eq!(put(&given), ["build", "-t", "x", "--push", "."]);
        assert_eq!(put(&["b", "--target", "", "."]), ["b", "."], "as buildx calls it, too");
        assert_eq!(put(&["build", "--label", "--secret=", "."]), ["build", "--label", "--secret=", "."]);
        for kept in [&["build", "--build-arg", "X=", "--", ""][..], &["build", ""], &["run", "x", "-o", ""]] {
            assert_eq!(put(kept), kept);
        }
    }

    #[test]
    fn what_only_others_have_comes_with_what_to_do_instead() {
        let told = |words: &[&str]| {
            let words: Vec<_> = ["mvm"].iter().chain(words).map(OsString::from).collect();
            advised(flags::matches(Cli::command(), &words).unwrap_err(), &words).to_string()
        };
        for (option, instead) in [
            ("--squash", "last stage"),
            ("--cpu-shares", "mvm up --cpus"),
            ("-m", "mvm up --cpus"),
            ("--print", "--call"),
        ] {
            let error = told(&["build", option, "."]);
            assert!(error.contains(&format!("unexpected argument '{option}' found")), "{error}");
            assert!(error.contains(instead) && !error.contains("similar"), "{error}");
        }
        assert!(told(&["build", "--pussh", "."]).contains("'--push'"));
        assert!(!told(&["ls", "--squash"]).contains("last stage"));
    }
}
