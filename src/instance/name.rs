//! Names of instances.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const LONGEST: usize = 31;

/// A valid name: it is a directory's name, part of a socket's path, and a word in messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid instance name {0:?}: use 1 to {LONGEST} lower-case letters, digits and hyphens, beginning with a letter or a digit"
)]
pub struct InvalidName(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that nothing else has, which begins with this.
    pub fn random(beginning: &str) -> Self {
        use std::hash::{BuildHasher, RandomState};
        // The hasher's keys are random.
        Self(format!("{beginning}-{:08x}", RandomState::new().hash_one(()) >> 32))
    }

    /// What is called a builder that the environment points at.
    pub fn remote() -> Self {
        Self("remote".to_owned())
    }
}

impl Default for Name {
    /// The instance that a verb means when none is given.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid =
            text.len() <= LONGEST && text.starts_with(word) && text.chars().all(|c| word(c) || c == '-');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names() {
        for good in ["a", "default", "7", "ci-2", &"x".repeat(31)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "..", "a b", "ü", &"x".repeat(32)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn message_says_what_is_allowed() {
        let error = "My VM".parse::<Name>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid instance name \"My VM\": use 1 to 31 lower-case letters, digits and hyphens, beginning with a letter or a digit"
        );
    }
}
