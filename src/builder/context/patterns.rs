//! Ordered lists of patterns with exceptions, as `.dockerignore` has them (moby/patternmatcher is the definition).
//!
//! A later pattern overrides an earlier one; `!` makes an exception; a directory that matches takes everything below
//! it along, until an exception names something there. One difference from the definition, on purpose: `{`, `|`, `}`
//! and a letter behind a backslash mean themselves, where Go's matcher lets them through to its regular expressions.

use thiserror::Error;

use super::glob::{self, Dialect, Glob, GlobError};
use super::lexical;

/// Why a list of patterns cannot be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum PatternError {
    #[error("the pattern `!` excepts nothing; name a path behind it")]
    EmptyException,
    #[error(transparent)]
    Glob(#[from] GlobError),
}

/// One pattern, cleaned, without its `!`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Vec<u8>,
    exception: bool,
    kind: Kind,
}

/// How a pattern is compared. The first three are what most patterns are, and need no glob.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Exact,
    /// What stands before a trailing `**`.
    Prefix(Vec<u8>),
    /// What stands behind a leading `**`, its `/` included.
    Suffix(Vec<u8>),
    Glob(Glob),
}

impl Pattern {
    fn parse(text: &[u8]) -> Result<Option<Self>, PatternError> {
        let trimmed = trim(text);
        if trimmed.is_empty() {
            return Ok(None);
        }
        let cleaned = lexical::clean(trimmed);
        let (text, exception) = match cleaned.strip_prefix(b"!") {
            Some(b"") => return Err(PatternError::EmptyException),
            Some(rest) => (rest.to_vec(), true),
            None => (cleaned, false),
        };
        let glob = Glob::parse(&text, Dialect::Path)?;
        let kind = Kind::of(&text, glob);
        Ok(Some(Self { text, exception, kind }))
    }

    pub(crate) fn is_exception(&self) -> bool {
        self.exception
    }

    /// The pattern up to a trailing `/**` or `/*`: where what it matches has to lie, if no glob is left in it.
    pub(crate) fn without_trailing_glob(&self) -> &[u8] {
        let text = self.text.strip_suffix(b"/**").unwrap_or(&self.text);
        text.strip_suffix(b"/*").unwrap_or(text)
    }

    fn matches(&self, path: &Subject<'_>) -> bool {
        match &self.kind {
            Kind::Exact => path.bytes == self.text,
            Kind::Prefix(prefix) => path.bytes.starts_with(prefix),
            Kind::Suffix(suffix) => {
                path.bytes.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path.bytes)
            }
            Kind::Glob(glob) => glob.matches(path.characters()),
        }
    }
}

impl Kind {
    fn of(text: &[u8], glob: Glob) -> Self {
        let has_glob = |part: &[u8]| part.iter().any(|byte| b"*?[]\\".contains(byte));
        if !has_glob(text) {
            return Self::Exact;
        }
        if let Some(suffix) = text.strip_prefix(b"**")
            && !has_glob(suffix)
        {
            return Self::Suffix(suffix.to_vec());
        }
        match text.strip_suffix(b"**") {
            Some(prefix) if !has_glob(prefix) => Self::Prefix(prefix.to_vec()),
            _ => Self::Glob(glob),
        }
    }
}

fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// A path, and its characters once some glob has asked for them.
struct Subject<'a> {
    bytes: &'a [u8],
    characters: std::cell::OnceCell<Vec<char>>,
}

impl Subject<'_> {
    fn characters(&self) -> &[char] {
        self.characters.get_or_init(|| glob::characters(self.bytes))
    }
}

/// Which of the patterns matched a directory: what lies in it starts from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Matched(Vec<bool>);

/// A list of patterns in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Blank patterns do not count.
    pub(crate) fn parse<P: AsRef<[u8]>>(patterns: &[P]) -> Result<Self, PatternError> {
        let parsed = patterns.iter().filter_map(|pattern| Pattern::parse(pattern.as_ref()).transpose());
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    /// Whether `path` matches, given what its directory matched (nothing, for a name in the root).
    pub(crate) fn matches(&self, path: &[u8], directory: &Matched) -> (bool, Matched) {
        let subject = Subject { bytes: path, characters: std::cell::OnceCell::new() };
        let mut result = false;
        let mut matched = Vec::with_capacity(self.0.len());
        for (index, pattern) in self.0.iter().enumerate() {
            let inherited = directory.0.get(index).copied().unwrap_or(false);
            // An inclusion has no say over what is in already, nor an exception over what is not.
            let asked = pattern.exception == result;
            let hit = inherited || (asked && pattern.matches(&subject));
            if hit {
                result = !pattern.exception;
            }
            matched.push(hit);
        }
        (result, Matched(matched))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether `path` is matched when the tree is walked down to it.
    fn matches(patterns: &[&str], path: &str) -> bool {
        let patterns = Patterns::parse(patterns).unwrap();
        let mut above = Matched::default();
        let mut result = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (result, above) = patterns.matches(&path.as_bytes()[..end], &above);
        }
        result
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, wanted) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**/file*txt", "dir/file.txt", true),
            ("**/**/*.txt", "dir/file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*/*.txt", "a/file.txt", false),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            ("a\\*b", "a*b", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("**/foo/bar", "afoo/bar", false),
            ("**.go", "a/x.go", true),
            ("a(b)c/def", "a(b)c/def", true),
            ("a{b,c}", "a{b,c}", true),
            ("a|b*", "ax", false),
            ("/abc", "abc", false),
            ("./abc/", "abc", true),
            ("  abc\t", "abc", true),
        ] {
            assert_eq!(matches(&[pattern], path), wanted, "{pattern:?} on {path:?}");
        }
    }

    #[test]
    fn exceptions_in_order() {
        for (patterns, path, wanted) in [
            (&["*", "!src"][..], "src/main.rs", false),
            (&["*", "!src"], "other/main.rs", true),
            (&["*", "!src", "src/*.o"], "src/a.o", true),
            (&["!src", "*"], "src/a.o", true),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["docs", "!docs/README.md"], "docs/other.md", true),
            (&["**/*.md", "!**/README.md"], "a/b/README.md", false),
            (&["a", "!a/b", "a/b/c"], "a/b/c/d", true),
            (&["a", "!a/b", "a/b/c"], "a/b/x", false),
            // The exception came too early to be asked about `a`, and does not name `a/b`.
            (&["a/b", "!a"], "a/b/c", true),
        ] {
            assert_eq!(matches(patterns, path), wanted, "{patterns:?} on {path:?}");
        }
    }

    #[test]
    fn names_that_are_not_utf8() {
        let patterns = Patterns::parse(&[b"b\xffd".as_slice(), b"x?y"]).unwrap();
        assert!(patterns.matches(b"b\xffd", &Matched::default()).0);
        assert!(!patterns.matches(b"b\xfed", &Matched::default()).0);
        assert!(patterns.matches(b"x\xffy", &Matched::default()).0);
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        assert_eq!(
            Patterns::parse(&["!"]).unwrap_err().to_string(),
            "the pattern `!` excepts nothing; name a path behind it"
        );
        assert_eq!(
            Patterns::parse(&["ok", "a[b"]).unwrap_err().to_string(),
            "the pattern \"a[b\" has a `[` without its `]`, or an empty or reversed range in it"
        );
        assert_eq!(Patterns::parse(&["", "  "]).unwrap(), Patterns(Vec::new()));
    }

    proptest! {
        /// The quick kinds say what the glob says.
        #[test]
        fn quick_kinds_agree_with_the_glob(pattern in "(\\*\\*)?/?[ab/]{1,5}(\\*\\*)?", path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
            let Some(parsed) = Pattern::parse(pattern.as_bytes()).unwrap() else { return Ok(()) };
            // A leading `**` that no `/` follows ends anywhere in a name, by definition; as a glob it would not.
            prop_assume!(!parsed.text.starts_with(b"**") || parsed.text.starts_with(b"**/"));
            let glob = Glob::parse(&parsed.text, Dialect::Path).unwrap();
            let subject = Subject { bytes: path.as_bytes(), characters: std::cell::OnceCell::new() };
            prop_assert_eq!(parsed.matches(&subject), glob.matches(subject.characters()));
        }

        /// Nothing that lies in a matched directory gets out without an exception.
        #[test]
        fn a_match_is_inherited(patterns in proptest::collection::vec("[ab*/]{1,4}", 1..4), path in "[ab]{1,2}/[ab]{1,2}") {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let above = path.split('/').next().unwrap();
            if matches(&patterns, above) {
                prop_assert!(matches(&patterns, &path));
            }
        }
    }
}
