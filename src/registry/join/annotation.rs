//! What is said of an index, or of what it lists, as `docker buildx imagetools create` reads `--annotation`.

use std::str::FromStr;

use crate::registry::Platform;

/// `index:KEY=VALUE`, or `manifest-descriptor[PLATFORM]:KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexAnnotation {
    pub(super) about: About,
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Index,
    /// Each entry, or those of a platform.
    Entries(Option<Platform>),
}

impl IndexAnnotation {
    /// Of the index itself.
    pub fn of_index(key: &str, value: &str) -> Self {
        Self { about: About::Index, key: key.to_owned(), value: value.to_owned() }
    }
}

impl FromStr for IndexAnnotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no annotation; write index:KEY=VALUE or manifest-descriptor:KEY=VALUE");
        let (front, value) = text.split_once('=').ok_or_else(wrong)?;
        let (about, key) = front.split_once(':').filter(|(_, key)| !key.is_empty()).ok_or_else(wrong)?;
        let (kind, platform) = match about.split_once('[') {
            None => (about, None),
            Some((kind, rest)) => (kind, Some(rest.strip_suffix(']').ok_or_else(wrong)?)),
        };
        let platform = platform.map(str::parse).transpose();
        let platform = platform.map_err(|error: crate::registry::InvalidPlatform| error.to_string())?;
        let about = match (kind, platform) {
            ("index", None) => About::Index,
            ("manifest-descriptor", platform) => About::Entries(platform),
            _ => return Err(wrong()),
        };
        Ok(Self { about, key: key.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said_and_of_what() {
        let parsed = |text: &str| text.parse::<IndexAnnotation>();
        assert_eq!(parsed("index:a=b=c").unwrap().about, About::Index);
        let arm = Some("linux/arm/v7".parse().unwrap());
        assert_eq!(parsed("manifest-descriptor[linux/arm/v7]:a=b").unwrap().about, About::Entries(arm));
        assert_eq!(parsed("manifest-descriptor:a=").unwrap().about, About::Entries(None));
        for text in ["a=b", "index:a", "manifest:a=b", "index[linux/amd64]:a=b", "index:=b"] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains("is no annotation; write index:KEY=VALUE"), "{error}");
        }
    }
}
