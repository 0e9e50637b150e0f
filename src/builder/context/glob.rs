//! Globs of `.dockerignore` and of COPY sources, matched in time linear in pattern times path.
//!
//! The syntax is that of Go's `filepath.Match` (`*`, `?`, `[a-z]`, `[^a]`, `\x`), and in patterns of
//! `.dockerignore` also `**`. Names need not be UTF-8: a byte that is not part of a character counts as one unknown
//! character, as it does in Go.

use thiserror::Error;

/// Why a pattern is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum GlobError {
    #[error("the pattern {0:?} has a `[` without its `]`, or an empty or reversed range in it")]
    Class(String),
    #[error("the pattern {0:?} ends in a backslash that escapes nothing")]
    Escape(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any characters of a name.
    Any,
    /// `**` at the end: whatever follows.
    Rest,
    /// `**` before something: any number of whole directories, none included. Always followed by `Inside`.
    Directories,
    /// Within those directories; left only behind a `/`.
    Inside,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// What the pattern's author may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// One name of a path: `**` is `*`.
    Name,
    /// A whole path: `**` crosses directories.
    Path,
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

/// A path as the characters that a pattern sees.
pub(crate) fn characters(bytes: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        characters.extend(chunk.valid().chars());
        characters.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    characters
}

impl Glob {
    pub(crate) fn parse(pattern: &[u8], dialect: Dialect) -> Result<Self, GlobError> {
        let characters = characters(pattern);
        let bad = |error: fn(String) -> GlobError| error(String::from_utf8_lossy(pattern).into_owned());
        let mut rest = characters.iter().copied().peekable();
        let mut tokens = Vec::new();
        while let Some(character) = rest.next() {
            match character {
                '*' if dialect == Dialect::Path && rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    if rest.peek().is_none() {
                        tokens.push(Token::Rest);
                    } else {
                        tokens.extend([Token::Directories, Token::Inside]);
                    }
                }
                '*' => tokens.push(Token::Any),
                '?' => tokens.push(Token::One),
                '\\' => tokens.push(Token::Literal(rest.next().ok_or_else(|| bad(GlobError::Escape))?)),
                '[' => tokens.push(parse_class(&mut rest).ok_or_else(|| bad(GlobError::Class))?),
                other => tokens.push(Token::Literal(other)),
            }
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `path` matches. Keeps the set of positions in the pattern that the characters so far can
    /// have led to, so no pattern makes it slow.
    pub(crate) fn matches(&self, path: &[char]) -> bool {
        let mut now = States::new(self.tokens.len());
        now.enter(&self.tokens, 0);
        for character in path {
            let mut next = States::new(self.tokens.len());
            for (position, token) in self.tokens.iter().enumerate().filter(|(position, _)| now.has(*position))
            {
                let after = position.saturating_add(1);
                match token {
                    Token::Literal(wanted) if wanted == character => next.enter(&self.tokens, after),
                    Token::One if *character != '/' => next.enter(&self.tokens, after),
                    Token::Any if *character != '/' => next.enter(&self.tokens, position),
                    Token::Rest if *character != '\n' => next.enter(&self.tokens, position),
                    Token::Inside if *character != '\n' => {
                        next.enter(&self.tokens, position);
                        if *character == '/' {
                            next.enter(&self.tokens, after);
                        }
                    }
                    Token::Class { negated, ranges }
                        if ranges.iter().any(|(low, high)| (low..=high).contains(&character)) != *negated =>
                    {
                        next.enter(&self.tokens, after);
                    }
                    _ => {}
                }
            }
            now = next;
        }
        now.has(self.tokens.len())
    }
}

/// What stands between `[` and `]`; `None` if that is not a class.
fn parse_class(rest: &mut std::iter::Peekable<impl Iterator<Item = char>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if rest.peek() == Some(&']') && !ranges.is_empty() {
            rest.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_character(rest)? } else { low };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

/// A set of positions in a pattern.
struct States(Vec<bool>);

impl States {
    fn new(tokens: usize) -> Self {
        Self(vec![false; tokens.saturating_add(1)])
    }

    fn has(&self, position: usize) -> bool {
        self.0.get(position).copied().unwrap_or(false)
    }

    /// Adds a position and those that it reaches without a character.
    fn enter(&mut self, tokens: &[Token], mut position: usize) {
        loop {
            match self.0.get_mut(position) {
                Some(state) if !*state => *state = true,
                _ => return,
            }
            match tokens.get(position) {
                Some(Token::Any | Token::Rest) => position = position.saturating_add(1),
                Some(Token::Directories) => {
                    self.enter(tokens, position.saturating_add(1));
                    position = position.saturating_add(2);
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern.as_bytes(), Dialect::Name).unwrap().matches(&characters(name.as_bytes()))
    }

    fn path(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern.as_bytes(), Dialect::Path).unwrap().matches(&characters(path.as_bytes()))
    }

    #[test]
    fn names_as_filepath_match_has_them() {
        for (pattern, text, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abe", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[-]", "-", false),
            ("**", "abc", true),
        ] {
            let result = Glob::parse(pattern.as_bytes(), Dialect::Name)
                .map(|glob| glob.matches(&characters(text.as_bytes())));
            assert_eq!(result.unwrap_or(false), wanted, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn two_stars_cross_directories() {
        for (pattern, text, wanted) in [
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("**/*.txt", "a/b.txt", true),
            ("**/*.txt", "b.txt", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**/**/b", "a/b", true),
        ] {
            assert_eq!(path(pattern, text), wanted, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn a_negated_class_crosses_a_directory_in_neither_dialect_s_favor() {
        assert!(path("a[^x]b", "a/b"), "as in the daemon's own language of patterns");
    }

    #[test]
    fn bytes_that_are_no_character_are_one_each() {
        let glob = Glob::parse(b"a??b", Dialect::Name).unwrap();
        assert!(glob.matches(&characters(b"a\xff\xfeb")));
        assert!(!glob.matches(&characters(b"a\xffb")));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_text() {
        for pattern in ["[", "[]", "[^", "a[b", "[a-", "[-x]", "[]a]", "[z-a]"] {
            let error = Glob::parse(pattern.as_bytes(), Dialect::Path).unwrap_err();
            assert_eq!(error, GlobError::Class(pattern.to_owned()), "{pattern}");
        }
        let error = Glob::parse(b"a\\", Dialect::Path).unwrap_err();
        assert_eq!(error.to_string(), "the pattern \"a\\\\\" ends in a backslash that escapes nothing");
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        assert!(!name(&format!("{}b", "a*".repeat(50)), &"a".repeat(4000)));
    }

    /// The definition, straight and slow.
    fn slow(tokens: &[Token], text: &[char]) -> bool {
        let Some((token, after)) = tokens.split_first() else { return text.is_empty() };
        let rest = || text.split_first();
        match token {
            Token::Any => {
                slow(after, text) || rest().is_some_and(|(first, more)| *first != '/' && slow(tokens, more))
            }
            Token::Rest => slow(after, text) || rest().is_some_and(|(_, more)| slow(tokens, more)),
            Token::Directories => {
                slow(&after[1..], text)
                    || (0..text.len()).any(|at| text[at] == '/' && slow(&after[1..], &text[at + 1..]))
            }
            Token::One => rest().is_some_and(|(first, more)| *first != '/' && slow(after, more)),
            Token::Literal(wanted) => {
                rest().is_some_and(|(first, more)| first == wanted && slow(after, more))
            }
            Token::Class { .. } | Token::Inside => unreachable!("not generated"),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab/*?]{0,8}", text in "[ab/]{0,8}") {
            let glob = Glob::parse(pattern.as_bytes(), Dialect::Path).unwrap();
            let text = characters(text.as_bytes());
            prop_assert_eq!(glob.matches(&text), slow(&glob.tokens, &text));
        }

        #[test]
        fn never_panics(pattern: Vec<u8>, text: Vec<u8>) {
            if let Ok(glob) = Glob::parse(&pattern, Dialect::Path) {
                glob.matches(&characters(&text));
            }
        }
    }
}
