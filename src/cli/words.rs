//! The words of a command line, put as they are parsed: scripts that were written for Docker's clients go on as they are.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::build;

/// The verb whose options scripts leave empty, as in `--output "$OUT"`.
const BUILD: &str = "build";
/// The same, as buildx has it.
pub(super) const BUILD_TOO: &str = "b";
/// The verb behind whose first word everything is another program's.
const RUN: &str = "run";

/// `--builder NAME VERB` means `VERB --builder NAME`; an option of `build` with an empty value is one that is not given; and what
/// follows the image of `run` is the container's, whatever it looks like.
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
                match verb.map(|verb| (verb.get_name(), Options { verb, command })) {
                    Some((BUILD, options)) => arranged.extend(options.without_empty(words.by_ref())),
                    Some((RUN, options)) => arranged.extend(options.with_command_apart(words.by_ref())),
                    _ => arranged.extend(words.by_ref()),
                }
            }
        }
    }
    arranged.extend(builder);
    arranged
}

/// What a verb may be given.
#[derive(Clone, Copy)]
struct Options<'a> {
    verb: &'a Command,
    /// The whole command line, which has options for every verb.
    command: &'a Command,
}

impl Options<'_> {
    fn take_value(self, is_meant: impl Fn(&Arg) -> bool) -> bool {
        let all = self.verb.get_arguments().chain(self.command.get_arguments());
        all.filter(|arg| is_meant(arg)).any(|arg| arg.get_action().takes_values())
    }

    fn is_long_with_value(self, word: &str) -> bool {
        let is_called = |arg: &Arg, name: &str| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
        };
        word.strip_prefix("--").is_some_and(|name| self.take_value(|arg| is_called(arg, name)))
    }

    /// Whether the next word is its value: of `-it` it is not, of `-ite` it is, of `-eA=1` it is not.
    fn wants_next(self, word: &str) -> bool {
        let Some(letters) = word.strip_prefix('-') else { return false };
        if letters.starts_with('-') {
            return self.is_long_with_value(word);
        }
        let takes_value = |letter| self.take_value(|arg| arg.get_short() == Some(letter));
        letters
            .find(takes_value)
            .and_then(|at| letters.get(at..))
            .is_some_and(|rest| rest.chars().count() == 1)
    }

    fn without_empty(self, mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--") => {
                    kept.push(word);
                    kept.extend(words.by_ref());
                }
                Some(text) if text.strip_suffix('=').is_some_and(|name| self.is_long_with_value(name)) => {}
                Some(text) if self.wants_next(text) => {
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

    fn with_command_apart(self, mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            let text = word.to_str().unwrap_or_default();
            let is_option = text.len() > 1 && text.starts_with('-');
            let (is_end, wants_next) = (text == "--", self.wants_next(text));
            kept.push(word);
            if !is_option {
                kept.push("--".into());
            }
            if is_end || !is_option {
                kept.extend(words.by_ref());
            } else if wants_next {
                kept.extend(words.next());
            }
        }
        kept
    }
}

/// With what to do instead, where `build` is given an option that only others have.
pub(super) fn advised(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let is_build = words.iter().any(|word| word == BUILD || word == BUILD_TOO);
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
        assert_eq!(put(&["stop", "x", "--builder", "y"]), ["stop", "x", "--builder", "y"]);
    }

    #[test]
    fn what_is_empty_was_not_given() {
        let given = ["build", "-o", "", "--secret=", "--file", "", "-t", "x", "--push", "."];
        assert_eq!(put(&given), ["build", "-t", "x", "--push", "."]);
        assert_eq!(put(&["b", "--target", "", "."]), ["b", "."], "as buildx calls it, too");
        assert_eq!(put(&["build", "--label", "--secret=", "."]), ["build", "--label", "--secret=", "."]);
        for kept in [&["build", "--build-arg", "X=", "--", ""][..], &["build", ""], &["exec", "x", "-o", ""]]
        {
            assert_eq!(put(kept), kept);
        }
    }

    #[test]
    fn what_follows_an_image_is_the_containers() {
        for (given, behind) in [
            (&["curl"][..], &["-v", "-h", "--rm"][..]),
            (&["--rm", "-it", "-e", "A=1", "--net", "none", "curl"], &["--", "x"]),
            (&["-itp", "1:2", "-eA=1", "--env=B", "--instance", "a", "curl"], &["--help"]),
            (&["--rm", "curl"], &[]),
        ] {
            let words = [&["run"], given, behind].concat();
            assert_eq!(put(&words), [&["run"], given, &["--"], behind].concat(), "{given:?}");
        }
        for kept in [&["run", "--help"][..], &["run", "--", "curl", "-v"], &["run", "-e"]] {
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
        assert!(told(&["b", "--squash", "."]).contains("last stage"));
        assert!(told(&["build", "--pussh", "."]).contains("'--push'"));
        assert!(!told(&["ls", "--squash"]).contains("last stage"));
    }
}
