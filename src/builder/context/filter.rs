//! Which entries of a context are sent, and which directories need not be entered at all.

use std::path::Path;

use thiserror::Error;

use super::follow::{self, FollowError};
use super::patterns::{Matched, PatternError, Patterns};

/// What the daemon asks for, as it comes in a request's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) include: Vec<Vec<u8>>,
    pub(crate) exclude: Vec<Vec<u8>>,
    /// Sources of COPY and ADD, links on the way to them not yet followed.
    pub(crate) follow: Vec<Vec<u8>>,
}

/// Why a selection cannot be applied.
#[derive(Debug, Error)]
pub(crate) enum FilterError {
    #[error("cannot use a pattern of .dockerignore")]
    Exclude(#[source] PatternError),
    #[error("cannot use the source of a COPY or ADD")]
    Include(#[source] PatternError),
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// A selection, ready to be asked.
#[derive(Debug)]
pub(crate) struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    /// Without a glob before their end, patterns say where to look: other directories need not be entered.
    includes_are_places: bool,
    exceptions_are_places: bool,
}

/// What the patterns said of a directory, for the entries in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Above {
    include: Matched,
    exclude: Matched,
}

/// What to do with an entry.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// It is sent.
    pub(crate) keep: bool,
    /// If it is a directory: something in it may be sent.
    pub(crate) enter: bool,
    pub(crate) above: Above,
}

impl Filter {
    pub(crate) fn new(root: &Path, selection: &Selection) -> Result<Self, FilterError> {
        let mut include = selection.include.clone();
        let followed = follow::follow(root, &selection.follow)?;
        if !followed.is_empty() {
            include.extend(followed);
            include.sort();
            include = follow::outermost(include);
        }
        let include = some(Patterns::parse(&include).map_err(FilterError::Include)?);
        let exclude = some(Patterns::parse(&selection.exclude).map_err(FilterError::Exclude)?);
        Ok(Self {
            includes_are_places: are_places(include.as_ref(), false),
            exceptions_are_places: are_places(exclude.as_ref(), true),
            include,
            exclude,
        })
    }

    /// Judges the entry at `path`, in a directory of which `above` is known (the default, for the root).
    pub(crate) fn judge(&self, path: &[u8], above: &Above) -> Verdict {
        let (mut keep, mut enter) = (true, true);
        let mut inner = Above::default();
        if let Some(include) = &self.include {
            let (matches, matched) = include.matches(path, &above.include);
            inner.include = matched;
            keep = matches;
            enter = matches || !self.includes_are_places || some_pattern_leads_below(include, path, false);
        }
        if let Some(exclude) = &self.exclude {
            let (matches, matched) = exclude.matches(path, &above.exclude);
            inner.exclude = matched;
            if matches {
                keep = false;
                enter &= !self.exceptions_are_places || some_pattern_leads_below(exclude, path, true);
            }
        }
        Verdict { keep, enter, above: inner }
    }
}

fn some(patterns: Patterns) -> Option<Patterns> {
    let any = patterns.iter().next().is_some();
    any.then_some(patterns)
}

fn are_places(patterns: Option<&Patterns>, exceptions: bool) -> bool {
    patterns
        .into_iter()
        .flat_map(Patterns::iter)
        .filter(|pattern| pattern.is_exception() == exceptions)
        .all(|pattern| !pattern.without_trailing_glob().iter().any(|byte| b"*[]?^\\".contains(byte)))
}

/// Whether a pattern (exception or not) lies below the directory, or matches within it.
fn some_pattern_leads_below(patterns: &Patterns, directory: &[u8], exceptions: bool) -> bool {
    patterns.iter().filter(|pattern| pattern.is_exception() == exceptions).any(|pattern| {
        let place = pattern.without_trailing_glob();
        place.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let bytes = |list: &[&str]| list.iter().map(|text| text.as_bytes().to_vec()).collect();
        let selection = Selection { include: bytes(include), exclude: bytes(exclude), follow: Vec::new() };
        Filter::new(Path::new("/nonexistent"), &selection).unwrap()
    }

    /// (kept, entered) of a path, asked directory by directory as a walk does.
    fn judge(filter: &Filter, path: &str) -> (bool, bool) {
        let mut above = Above::default();
        let mut last = (false, true);
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if !last.1 {
                return (false, false);
            }
            let verdict = filter.judge(&path.as_bytes()[..end], &above);
            above = verdict.above;
            last = (verdict.keep, verdict.enter);
        }
        last
    }

    #[test]
    fn without_patterns_everything_goes() {
        assert_eq!(judge(&filter(&[], &[]), "a/b"), (true, true));
    }

    #[test]
    fn an_excluded_directory_is_not_entered() {
        let filter = filter(&[], &["node_modules", "**/*.o"]);
        assert_eq!(judge(&filter, "node_modules"), (false, false));
        assert_eq!(judge(&filter, "src/x.o"), (false, false));
        assert_eq!(judge(&filter, "src"), (true, true));
    }

    #[test]
    fn it_is_entered_where_an_exception_may_lie() {
        let filter = filter(&[], &["*", "!src/bin", "!doc/**"]);
        assert_eq!(judge(&filter, "src"), (false, true));
        assert_eq!(judge(&filter, "src/bin"), (true, true));
        assert_eq!(judge(&filter, "src/bin/main.rs"), (true, true));
        assert_eq!(judge(&filter, "src/lib"), (false, false));
        assert_eq!(judge(&filter, "doc"), (false, true));
        assert_eq!(judge(&filter, "srcs"), (false, false));
    }

    #[test]
    fn an_exception_with_a_glob_may_lie_anywhere() {
        let filter = filter(&[], &["*", "!**/*.md"]);
        assert_eq!(judge(&filter, "deep"), (false, true));
        assert_eq!(judge(&filter, "deep/er"), (false, true));
        assert_eq!(judge(&filter, "deep/er/a.md"), (true, true));
    }

    #[test]
    fn only_what_is_included_and_the_way_to_it() {
        let filter = filter(&["src/bin", "Cargo.*"], &[]);
        assert_eq!(judge(&filter, "src"), (false, true));
        assert_eq!(judge(&filter, "src/bin/x"), (true, true));
        assert_eq!(judge(&filter, "Cargo.toml"), (true, true));
        assert_eq!(judge(&filter, "target"), (false, true), "a glob among the includes can match anywhere");
        assert_eq!(judge(&self::filter(&["src/bin"], &[]), "target"), (false, false));
    }

    #[test]
    fn exclusion_beats_inclusion() {
        let filter = filter(&["src"], &["src/gen"]);
        assert_eq!(judge(&filter, "src/gen"), (false, false));
        assert_eq!(judge(&filter, "src/lib.rs"), (true, true));
    }

    #[test]
    fn a_bad_pattern_says_where_it_comes_from() {
        let selection = Selection { exclude: vec![b"a[".to_vec()], ..Selection::default() };
        let error = Filter::new(Path::new("/"), &selection).unwrap_err();
        assert_eq!(error.to_string(), "cannot use a pattern of .dockerignore");
    }
}
