//! What an image may be called, as oci-spec's `Reference` has it, without its regular expression: to compile that takes longer than all
//! else that a build does here before its first word.

use oci_client::Reference;
use thiserror::Error;

/// Where a name without a registry belongs, as it is written and as it once was.
const HUB: &str = "docker.io";
const OLD_HUB: &str = "index.docker.io";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// What is wrong with a name.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Wrong {
    #[error("{0:?} is no registry")]
    Registry(String),
    #[error("{0:?} has capital letters")]
    Capitals(String),
    #[error("{0:?} is no name of a repository")]
    Repository(String),
    #[error("its name has more than {LONGEST_NAME} characters")]
    Long,
    #[error("{0:?} is no tag")]
    Tag(String),
    #[error("{0:?} is no digest")]
    Digest(String),
}

/// Fills in what was left out.
pub(super) fn parse(written: &str) -> Result<Reference, Wrong> {
    let (rest, digest) = match written.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (written, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        // Before a slash, a colon is a registry's.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = split(name)?;
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(Wrong::Tag(tag.to_owned()));
    }
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Err(Wrong::Digest(digest.to_owned()));
    }
    let (tag, digest) = (tag.map(str::to_owned), digest.map(str::to_owned));
    Ok(match (tag, digest) {
        (None, None) => Reference::with_tag(registry, repository, "latest".to_owned()),
        (Some(tag), None) => Reference::with_tag(registry, repository, tag),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
    })
}

/// Registry and repository.
fn split(name: &str) -> Result<(String, String), Wrong> {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (Some(first), rest),
        _ => (None, name),
    };
    if let Some(registry) = registry.filter(|registry| !is_registry(registry)) {
        return Err(Wrong::Registry(registry.to_owned()));
    }
    if repository.contains(|character: char| character.is_ascii_uppercase()) {
        return Err(Wrong::Capitals(repository.to_owned()));
    }
    if !repository.split('/').all(is_component) {
        return Err(Wrong::Repository(repository.to_owned()));
    }
    if repository.len() > LONGEST_NAME {
        return Err(Wrong::Long);
    }
    let registry = registry.filter(|registry| *registry != OLD_HUB).unwrap_or(HUB);
    let is_official = registry == HUB && !repository.contains('/');
    let library = if is_official { "library/" } else { "" };
    Ok((registry.to_owned(), format!("{library}{repository}")))
}

/// `HOST[:PORT]`, where a host's labels begin and end with a letter or a digit.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        label.bytes().all(is_inside) && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Small letters and digits, with a dot, one or two underscores or any number of hyphens between them.
fn is_component(text: &str) -> bool {
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let mut between = text.split(is_word).filter(|between| !between.is_empty());
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    text.starts_with(is_word) && text.ends_with(is_word) && between.all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    (1..=LONGEST_TAG).contains(&text.len())
        && text.starts_with(is_word)
        && text.chars().all(|character| is_word(character) || matches!(character, '.' | '-'))
}

/// Of an algorithm that registries know.
pub(super) fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", _)) => 64,
        Some(("sha384", _)) => 96,
        Some(("sha512", _)) => 128,
        _ => return false,
    };
    let (_, hex) = text.split_at_checked("sha256:".len()).unwrap_or_default();
    hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Their grammar, but for what it takes and no registry does: a first part with capital letters that is one of a repository's,
    /// and a registry with an underscore.
    fn as_they_say(written: &str) -> Option<Reference> {
        let theirs = Reference::try_from(written).ok()?;
        let has_capitals = theirs.repository().bytes().any(|byte| byte.is_ascii_uppercase());
        (!has_capitals && !theirs.registry().contains('_')).then_some(theirs)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn names_are_what_the_published_grammar_says(
            written in "([a-zA-Z0-9.:-]{1,8}/)?[a-z0-9._/-]{1,12}(:[a-zA-Z0-9_.-]{0,5})?(@(sha256|sha512|md5):[0-9a-fA-F]{64})?",
        ) {
            prop_assert_eq!(parse(&written).ok(), as_they_say(&written));
        }

        #[test]
        fn anything_is_a_name_or_none(written in "[ -~]{0,20}") {
            prop_assert_eq!(parse(&written).ok(), as_they_say(&written));
        }
    }

    #[test]
    fn names_and_what_is_none() {
        let long = "a".repeat(128);
        for written in [
            "a",
            "a:1",
            "a/b:1",
            "localhost/a",
            "localhost:5000/a/b--c__d.e_f:V1.0-x_",
            "index.docker.io/a",
            "docker.io/a/b",
            "EXAMPLE.com:1/a",
            "a.b-c.d/e",
            &format!("a:{long}"),
            &format!("a:1@sha256:{}", "0".repeat(64)),
            &format!("a@sha512:{}", "F".repeat(128)),
        ] {
            let theirs = as_they_say(written);
            assert!(theirs.is_some(), "{written}");
            assert_eq!(parse(written).ok(), theirs, "{written}");
        }
        for written in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:.1",
            "a:ä",
            "A",
            "A/b",
            "a/B",
            "a...b",
            "a___b",
            "-a",
            "a-",
            "a@",
            "a@sha256:0",
            "-.x/a",
            "a.:1/b",
            "a:/b",
            "a:x/b",
            "a b",
            &format!("a:{long}1"),
            &"a/".repeat(200),
            &"a".repeat(256),
            &format!("a@sha256:{}", "0".repeat(65)),
            &format!("a@sha256:{}", "g".repeat(64)),
            &format!("a@md5:{}", "0".repeat(64)),
        ] {
            assert!(parse(written).is_err(), "{written}");
        }
    }
}
