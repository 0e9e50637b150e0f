//! What is joined, as `docker buildx imagetools create` takes it: an image, a digest, or a descriptor as JSON.

use std::collections::HashMap;
use std::str::FromStr;

use oci_spec::image::{Descriptor, Platform};
use serde::Deserialize;

use super::JoinError;
use crate::registry::grammar::is_digest;
use crate::registry::{ImageRef, InvalidImageRef};

/// As it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Image(ImageRef),
    /// What lies under a digest, in a repository that is named elsewhere.
    Content(Content),
}

/// A descriptor (OCI image-spec 1.1, `descriptor.md`) of which only the digest has to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    pub digest: String,
    media_type: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    annotations: HashMap<String, String>,
    platform: Option<Platform>,
}

/// Nothing that could be joined.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSource {
    #[error(transparent)]
    Image(#[from] InvalidImageRef),
    #[error("{0:?} is no digest; write sha256: and 64 hexadecimal digits")]
    Digest(String),
    #[error("this is no descriptor; write JSON such as {{\"digest\": \"sha256:...\"}}")]
    Descriptor(#[source] serde_json::Error),
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let text = text.trim();
        let content = if text.starts_with('{') {
            serde_json::from_str(text).map_err(InvalidSource::Descriptor)?
        } else if text.starts_with("sha256:") || is_digest(text) {
            Content { digest: text.to_owned(), ..Content::default() }
        } else {
            return Ok(Self::Image(text.parse()?));
        };
        if !is_digest(&content.digest) {
            return Err(InvalidSource::Digest(content.digest));
        }
        Ok(Self::Content(content))
    }
}

/// A source of which the repository is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub(super) image: ImageRef,
    /// What is known of it beside, and counts more than what the registry says.
    content: Content,
}

impl From<ImageRef> for Placed {
    fn from(image: ImageRef) -> Self {
        Self { image, content: Content::default() }
    }
}

impl Placed {
    /// Something under its digest in the repository of an image.
    pub fn beside(image: &ImageRef, content: Content) -> Self {
        Self { image: image.with_digest(&content.digest), content }
    }

    /// Whether it is what the descriptor says.
    pub(super) fn check(&self, media_type: &str, size: usize) -> Result<(), JoinError> {
        let differs = |what, said: String, found: String| {
            Err(JoinError::Differs { image: self.image.to_string(), what, said, found })
        };
        match (&self.content.media_type, self.content.size) {
            (Some(said), _) if said != media_type => {
                differs("media type", said.clone(), media_type.to_owned())
            }
            (_, Some(said)) if usize::try_from(said) != Ok(size) && said != 0 => {
                differs("size", said.to_string(), size.to_string())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn platform(&self) -> Option<Platform> {
        self.content.platform.clone()
    }

    /// With its own annotations.
    pub(super) fn annotated(&self, mut descriptor: Descriptor) -> Descriptor {
        if !self.content.annotations.is_empty() {
            descriptor.set_annotations(Some(self.content.annotations.clone()));
        }
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_digests_and_descriptors() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let source = |text: &str| text.parse::<Source>();
        assert_eq!(source("demo:1\n").unwrap(), Source::Image("demo:1".parse().unwrap()));
        let content = Content { digest: digest.clone(), ..Content::default() };
        assert_eq!(source(&digest).unwrap(), Source::Content(content.clone()));
        let json = format!("{{\"digest\": \"{digest}\"}}\n");
        assert_eq!(source(&json).unwrap(), Source::Content(content));
        let whole = format!(
            "{{\"mediaType\": \"m\", \"digest\": \"{digest}\", \"size\": 7, \"annotations\": {{\"a\": \"b\"}}, \
             \"platform\": {{\"os\": \"linux\", \"architecture\": \"arm64\"}}, \"artifactType\": \"x\"}}"
        );
        let Source::Content(content) = source(&whole).unwrap() else { panic!("no content") };
        let placed = Placed::beside(&"127.0.0.1:5000/demo:1".parse().unwrap(), content);
        assert_eq!(placed.image.to_string(), format!("127.0.0.1:5000/demo@{digest}"));
        assert!(placed.check("m", 7).is_ok());
        assert_eq!(
            placed.check("m", 8).unwrap_err().to_string(),
            format!(
                "the descriptor of 127.0.0.1:5000/demo@{digest} says that its size is 7, and it is 8; correct it, or give the digest alone"
            )
        );
        assert!(placed.check("n", 7).unwrap_err().to_string().contains("its media type is m, and it is n"));
    }

    #[test]
    fn what_is_none_of_them() {
        for (text, wanted) in [
            ("sha256:00", "\"sha256:00\" is no digest; write sha256: and 64 hexadecimal digits"),
            ("{\"digest\": \"x\"}", "\"x\" is no digest"),
            ("{\"size\": 7}", "this is no descriptor; write JSON"),
            ("{", "this is no descriptor; write JSON"),
            ("Demo", "\"Demo\" is not the name of an image"),
            ("demo:1\ndemo:2", "is not the name of an image"),
            ("", "\"\" is not the name of an image"),
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
