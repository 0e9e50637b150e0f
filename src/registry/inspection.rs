//! What a manifest says about an image: itself, and the manifests that it lists.

use oci_spec::image::{ImageIndex, MediaType};
use serde::Serialize;

use super::details::attested;
use super::{ImageRef, Manifest, Platform};

/// An image as `mvm imagetools inspect` shows it. `--json` prints this type: its shape is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    pub name: String,
    pub media_type: String,
    pub digest: String,
    /// Bytes of the manifest itself.
    pub size: u64,
    /// Empty for an image of one platform.
    pub manifests: Vec<Entry>,
}

/// One manifest of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `NAME@DIGEST`, to be pulled or run as it stands.
    pub name: String,
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The digest of the entry that it says something of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attests: Option<String>,
}

/// The registry sent something else.
#[derive(Debug, thiserror::Error)]
#[error("what {image} names is no image manifest; `--raw` shows what the registry sent")]
pub struct UnreadableManifest {
    image: String,
    source: oci_spec::OciSpecError,
}

/// Only what tells one kind of manifest from the other.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde_json::Value>,
}

/// What a manifest calls itself, and whether it lists others.
pub(super) fn kind(image: &ImageRef, manifest: &Manifest) -> Result<(String, bool), UnreadableManifest> {
    let unreadable = |source| UnreadableManifest { image: image.to_string(), source };
    let kind: Kind = serde_json::from_slice(&manifest.bytes).map_err(|error| unreadable(error.into()))?;
    let is_list = kind.manifests.is_some();
    // "mediaType [...] SHOULD be used" (OCI image-spec 1.1, image index): where it is left out, the shape tells.
    let default = if is_list { MediaType::ImageIndex } else { MediaType::ImageManifest };
    Ok((kind.media_type.unwrap_or_else(|| default.to_string()), is_list))
}

impl Inspection {
    pub fn new(image: &ImageRef, manifest: &Manifest) -> Result<Self, UnreadableManifest> {
        let unreadable = |source| UnreadableManifest { image: image.to_string(), source };
        let (media_type, is_list) = kind(image, manifest)?;
        let manifests = if is_list {
            let index = ImageIndex::from_reader(manifest.bytes.as_slice()).map_err(unreadable)?;
            index.manifests().iter().map(|entry| Entry::new(image, entry)).collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            name: image.to_string(),
            media_type,
            digest: manifest.digest.clone(),
            size: manifest.bytes.len().try_into().unwrap_or(u64::MAX),
            manifests,
        })
    }

    /// What the image can run on, each once, in the list's order; attestations (`unknown/unknown`) are none.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms = Vec::new();
        for platform in self.manifests.iter().filter_map(|entry| entry.platform.as_ref()) {
            if platform.os != "unknown" && !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        platforms
    }
}

impl Entry {
    fn new(image: &ImageRef, entry: &oci_spec::image::Descriptor) -> Self {
        let digest = entry.digest().to_string();
        // A digest replaces a digest that the name had; the tag stays for the reader.
        let whole = image.to_string();
        let name = whole.split_once('@').map_or(whole.as_str(), |(name, _)| name);
        Self {
            attests: attested(entry).map(str::to_owned),
            name: format!("{name}@{digest}"),
            media_type: entry.media_type().to_string(),
            digest,
            size: entry.size(),
            platform: Platform::of_entry(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Inspection;
    use crate::registry::{ImageRef, Manifest};

    const DIGEST: &str = "sha256:1a583b0c5a1d5f4b5fb398e51e6a26080753e4188ff68c94e8ff2eda031eef4a";

    fn inspect(name: &str, json: &str) -> Result<Inspection, super::UnreadableManifest> {
        let image: ImageRef = name.parse().unwrap();
        Inspection::new(&image, &Manifest { bytes: json.as_bytes().to_vec(), digest: DIGEST.to_owned() })
    }

    fn list() -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[
            {{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"{DIGEST}","size":700,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}},
            {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":7,"platform":{{"architecture":"unknown","os":"unknown"}}}}]}}"#
        )
    }

    #[test]
    fn a_list_with_its_platforms() {
        let seen = inspect("127.0.0.1:5000/demo", &list()).unwrap();
        assert_eq!(seen.media_type, "application/vnd.docker.distribution.manifest.list.v2+json");
        assert_eq!(seen.manifests[0].name, format!("127.0.0.1:5000/demo:latest@{DIGEST}"));
        assert_eq!(seen.manifests[0].size, 700);
        let platforms: Vec<String> = seen.platforms().iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/arm/v7"]);
    }

    #[test]
    fn a_digest_in_the_name_is_replaced() {
        let seen = inspect(&format!("127.0.0.1:5000/demo@{DIGEST}"), &list()).unwrap();
        assert_eq!(seen.manifests[0].name, format!("127.0.0.1:5000/demo@{DIGEST}"));
    }

    #[test]
    fn one_platform_has_no_list() {
        let seen = inspect("demo", r#"{"schemaVersion":2,"config":{},"layers":[]}"#).unwrap();
        assert_eq!(seen.media_type, "application/vnd.oci.image.manifest.v1+json");
        assert!(seen.manifests.is_empty());
    }

    #[test]
    fn anything_else_is_refused() {
        let error = inspect("demo", "<html>").unwrap_err().to_string();
        assert_eq!(
            error,
            "what docker.io/library/demo:latest names is no image manifest; `--raw` shows what the registry sent"
        );
    }
}
