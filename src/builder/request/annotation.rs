//! Annotations of what a build makes, as `docker buildx build --annotation` reads them, and as attributes of BuildKit's exporters.

use std::str::FromStr;

use crate::registry::Platform;

/// What can be annotated. Nothing is the manifest of each platform.
const KINDS: [&str; 4] = ["index", "index-descriptor", "manifest", "manifest-descriptor"];

/// `[KIND[PLATFORM],...:]KEY=VALUE`: one annotation, of one thing or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The attributes that it is for BuildKit.
    attributes: Vec<String>,
    value: String,
}

/// How the attribute of an index's own annotation begins.
const OF_INDEX: &str = "annotation-index.";

impl Annotation {
    /// The key and the value of what is said of the index itself, if something is.
    pub(super) fn of_index(&self) -> Option<(&str, &str)> {
        let key = self.attributes.iter().find_map(|attribute| attribute.strip_prefix(OF_INDEX))?;
        Some((key, &self.value))
    }

    /// Whether there has to be an index for it.
    pub(super) fn is_of_index(&self) -> bool {
        self.attributes.iter().any(|attribute| attribute.starts_with("annotation-index"))
    }

    /// What is said of anything else.
    pub(super) fn without_index(&self) -> Self {
        let others = self.attributes.iter().filter(|attribute| !attribute.starts_with(OF_INDEX));
        Self { attributes: others.cloned().collect(), value: self.value.clone() }
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (String, String)> {
        self.attributes.iter().map(|attribute| (attribute.clone(), self.value.clone()))
    }
}

impl FromStr for Annotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no annotation; write KEY=VALUE, or KIND:KEY=VALUE");
        let (front, value) = text.split_once('=').ok_or_else(wrong)?;
        let (kinds, key) = front.split_once(':').map_or((None, front), |(kinds, key)| (Some(kinds), key));
        if key.is_empty() {
            return Err(wrong());
        }
        let attributes = match kinds {
            None => vec![format!("annotation.{key}")],
            Some(kinds) => kinds.split(',').map(|kind| attribute(kind, key)).collect::<Result<_, _>>()?,
        };
        Ok(Self { attributes, value: value.to_owned() })
    }
}

/// `manifest[linux/arm64]` and a key as BuildKit wants them: `annotation-manifest[linux/arm64].KEY`.
fn attribute(text: &str, key: &str) -> Result<String, String> {
    let (kind, platform) = match text.split_once('[') {
        None => (text, None),
        Some((kind, rest)) => (kind, Some(rest.strip_suffix(']').ok_or_else(|| unknown(text))?)),
    };
    if !KINDS.contains(&kind) {
        return Err(unknown(text));
    }
    let platform = platform.map(str::parse::<Platform>).transpose().map_err(|error| error.to_string())?;
    let platform = platform.map(|platform| format!("[{platform}]")).unwrap_or_default();
    Ok(format!("annotation-{kind}{platform}.{key}"))
}

fn unknown(kind: &str) -> String {
    format!(
        "{kind:?} cannot be annotated; there are {}, each with a platform behind it, as in manifest[linux/arm64], or without",
        KINDS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_become_attributes() {
        for (text, expected) in [
            ("a.b=c=d", &[("annotation.a.b", "c=d")][..]),
            ("index:a=", &[("annotation-index.a", "")]),
            (
                "manifest[linux/arm/v7],index-descriptor:a=b:c",
                &[("annotation-manifest[linux/arm/v7].a", "b:c"), ("annotation-index-descriptor.a", "b:c")],
            ),
        ] {
            let annotation: Annotation = text.parse().unwrap();
            let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            assert!(annotation.attributes().eq(expected), "{annotation:?}");
        }
    }

    #[test]
    fn an_index_has_its_own() {
        let both: Annotation = "index,manifest:a=b".parse().unwrap();
        assert_eq!(both.of_index(), Some(("a", "b")));
        let rest = both.without_index();
        assert_eq!(rest.of_index(), None);
        assert!(rest.attributes().eq([("annotation-manifest.a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("a", "\"a\" is no annotation; write KEY=VALUE, or KIND:KEY=VALUE"),
            ("=b", "is no annotation"),
            ("index:=b", "is no annotation"),
            ("layer:a=b", "\"layer\" cannot be annotated; there are index, index-descriptor, manifest,"),
            ("manifest[linux/arm64:a=b", "cannot be annotated"),
            ("manifest[x y]:a=b", "is not a platform"),
        ] {
            let error = text.parse::<Annotation>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
