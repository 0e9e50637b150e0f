//! Everything that an image says of itself: its manifest, the configuration of each platform, and what is attested of it.

use std::cell::Cell;
use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::{Map, Value};

use super::credentials::{CredentialError, Credentials};
use super::inspection::{UnreadableManifest, kind};
use super::{Error, ImageRef, Manifest, Platform, Registry};

/// What an image says of itself takes no more bytes; most of it are lists of what it contains.
const LONGEST: usize = 64 << 20;
/// What an attestation is of, and what kind of one it is (BuildKit `docs/attestations/attestation-storage.md`).
const REFERENCE: &str = "vnd.docker.reference.digest";
const PREDICATE: &str = "in-toto.io/predicate-type";
/// What buildx calls the list of what an image contains, and further ones.
const SPDX: &str = "SPDX";
const MORE_SPDX: &str = "AdditionalSPDXs";

/// Why something of an image cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DetailsError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Registry(#[from] Error),
    #[error(transparent)]
    Unreadable(#[from] UnreadableManifest),
    #[error("{what} of {image} cannot be read")]
    Json {
        what: &'static str,
        image: String,
        #[source]
        source: serde_json::Error,
    },
}

/// What is asked for, beside the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub configurations: bool,
    pub attestations: bool,
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// `name`, `manifest`, and as far as they are wanted `image`, `provenance` and `sbom`: each for an image of one
    /// platform itself, for one of several by platform.
    pub parts: Value,
    /// Whether it is an index, or one manifest.
    pub is_list: bool,
    pub platforms: usize,
}

/// An image that is looked into.
struct Looked<'a> {
    image: &'a ImageRef,
    registry: Registry,
    credentials: &'a Credentials,
    /// How many bytes more are taken.
    room: Cell<usize>,
}

/// Asks the image's registry.
pub async fn details(
    image: &ImageRef,
    credentials: &Credentials,
    wanted: Wanted,
) -> Result<Details, DetailsError> {
    let looked = Looked { image, registry: Registry::of(image), credentials, room: Cell::new(LONGEST) };
    let whole = looked.manifest(image).await?;
    let (media_type, is_list) = kind(image, &whole)?;
    let json = |source| looked.json("the manifest", source);
    let mut manifest: Map<String, Value> = serde_json::from_slice(&whole.bytes).map_err(json)?;
    manifest.insert("mediaType".to_owned(), media_type.into());
    manifest.insert("digest".to_owned(), whole.digest.clone().into());
    manifest.insert("size".to_owned(), whole.bytes.len().into());

    let mut all = Map::new();
    all.insert("name".to_owned(), image.written().into());
    all.insert("manifest".to_owned(), manifest.into());
    if wanted.attestations {
        // Nothing said is shown as nothing, and not as a part that there is not.
        all.extend(["provenance", "sbom"].map(|part| (part.to_owned(), Value::Object(Map::new()))));
    }
    if !is_list {
        if wanted.configurations {
            all.insert("image".to_owned(), looked.configuration(&whole).await?);
        }
        return Ok(Details { parts: all.into(), is_list, platforms: 1 });
    }
    let index: ImageIndex = serde_json::from_slice(&whole.bytes).map_err(json)?;
    let (images, attestations): (Vec<_>, Vec<_>) =
        index.manifests().iter().partition(|entry| attested(entry).is_none());
    let mut by_platform = ByPlatform::default();
    for entry in images {
        let name = platform(entry);
        by_platform.platforms.insert(name.clone());
        if wanted.configurations {
            let manifest = looked.manifest(&image.with_digest(entry.digest().as_ref())).await?;
            by_platform.add("image", &name, looked.configuration(&manifest).await?);
        }
        let digest = entry.digest().to_string();
        let own = attestations.iter().filter(|one| attested(one) == Some(digest.as_str()));
        for attestation in own.filter(|_| wanted.attestations) {
            for (part, kind, predicate) in looked.predicates(attestation).await? {
                by_platform.attest(part, &name, kind, predicate);
            }
        }
    }
    let platforms = by_platform.platforms.len();
    all.extend(by_platform.parts());
    Ok(Details { parts: all.into(), is_list, platforms })
}

/// Parts of an image by their names, each by platform.
#[derive(Default)]
struct ByPlatform {
    parts: Map<String, Value>,
    platforms: BTreeSet<String>,
}

impl ByPlatform {
    fn add(&mut self, part: &str, platform: &str, value: Value) {
        let of_part = self.parts.entry(part).or_insert_with(|| Map::new().into());
        if let Some(of_part) = of_part.as_object_mut() {
            of_part.insert(platform.to_owned(), value);
        }
    }

    /// An attestation. Of what lists the content there may be several: buildx has the first, and `AdditionalSPDXs`.
    fn attest(&mut self, part: &str, platform: &str, kind: &str, predicate: Value) {
        let known = self.parts.get_mut(part).and_then(|of_part| of_part.get_mut(platform));
        match known.and_then(Value::as_object_mut) {
            Some(known) if kind == SPDX => {
                let more = known.entry(MORE_SPDX).or_insert_with(|| Value::Array(Vec::new()));
                more.as_array_mut().into_iter().for_each(|more| more.push(predicate.clone()));
            }
            _ => self.add(part, platform, Value::Object(Map::from_iter([(kind.to_owned(), predicate)]))),
        }
    }

    /// Of an image with one platform each is that of the platform.
    fn parts(self) -> Map<String, Value> {
        let is_single = self.platforms.len() < 2;
        let single = |value: Value| match value {
            Value::Object(all) if is_single => all.into_iter().next().map_or(Value::Null, |(_, only)| only),
            value => value,
        };
        self.parts.into_iter().map(|(part, value)| (part, single(value))).collect()
    }
}

impl Looked<'_> {
    async fn manifest(&self, image: &ImageRef) -> Result<Manifest, DetailsError> {
        let credential = self.credentials.for_registry(image.registry())?;
        let manifest = self.registry.manifest(image, credential.as_ref()).await?;
        self.room.set(self.room.get().saturating_sub(manifest.bytes.len()));
        Ok(manifest)
    }

    async fn document(&self, digest: &str) -> Result<Vec<u8>, DetailsError> {
        let bytes = self.registry.document(self.image, digest, self.room.get()).await?;
        self.room.set(self.room.get().saturating_sub(bytes.len()));
        Ok(bytes)
    }

    async fn configuration(&self, manifest: &Manifest) -> Result<Value, DetailsError> {
        let parsed: ImageManifest =
            serde_json::from_slice(&manifest.bytes).map_err(|source| self.json("a manifest", source))?;
        let bytes = self.document(parsed.config().digest().as_ref()).await?;
        serde_json::from_slice(&bytes).map_err(|source| self.json("a configuration", source))
    }

    /// Of an attestation what it is, and what it says.
    async fn predicates(
        &self,
        attestation: &Descriptor,
    ) -> Result<Vec<(&'static str, &'static str, Value)>, DetailsError> {
        let manifest = self.manifest(&self.image.with_digest(attestation.digest().as_ref())).await?;
        let parsed: ImageManifest =
            serde_json::from_slice(&manifest.bytes).map_err(|source| self.json("an attestation", source))?;
        let mut found = Vec::new();
        for layer in parsed.layers() {
            let Some((part, kind)) = annotation(layer, PREDICATE).and_then(known_predicate) else { continue };
            let bytes = self.document(layer.digest().as_ref()).await?;
            let mut statement: Value =
                serde_json::from_slice(&bytes).map_err(|source| self.json("an attestation", source))?;
            let predicate = statement.get_mut("predicate").map(Value::take);
            found.push((part, kind, predicate.unwrap_or_default()));
        }
        Ok(found)
    }

    fn json(&self, what: &'static str, source: serde_json::Error) -> DetailsError {
        DetailsError::Json { what, image: self.image.to_string(), source }
    }
}

/// The part and its kind, as buildx calls them.
fn known_predicate(predicate: &str) -> Option<(&'static str, &'static str)> {
    if predicate.starts_with("https://slsa.dev/provenance/") {
        return Some(("provenance", "SLSA"));
    }
    predicate.starts_with("https://spdx.dev/Document").then_some(("sbom", SPDX))
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}

/// The digest of what an entry of an index attests something of.
pub(super) fn attested(entry: &Descriptor) -> Option<&str> {
    annotation(entry, REFERENCE)
}

fn platform(entry: &Descriptor) -> String {
    Platform::of_entry(entry).map_or_else(|| entry.digest().to_string(), |platform| platform.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_platform_alone_is_not_named() {
        let parts = |platforms: &[&str]| {
            let mut parts = ByPlatform::default();
            for platform in platforms {
                parts.platforms.insert((*platform).to_owned());
                parts.add("image", platform, json!({"os": "linux"}));
            }
            parts.attest("sbom", "linux/amd64", "SPDX", 1.into());
            parts.attest("sbom", "linux/amd64", "SPDX", 2.into());
            parts.attest("provenance", "linux/amd64", "SLSA", 3.into());
            parts.attest("provenance", "linux/amd64", "SLSA", 4.into());
            parts.parts()
        };
        let several = parts(&["linux/amd64", "linux/arm64"]);
        assert_eq!(several["image"]["linux/arm64"]["os"], "linux");
        assert_eq!(several["sbom"], json!({"linux/amd64": {"SPDX": 1, "AdditionalSPDXs": [2]}}));
        let one = parts(&["linux/amd64"]);
        assert_eq!(one["image"], json!({"os": "linux"}));
        assert_eq!(one["provenance"], json!({"SLSA": 4}));
    }

    #[test]
    fn predicates_have_the_names_of_buildx() {
        assert_eq!(known_predicate("https://slsa.dev/provenance/v1"), Some(("provenance", "SLSA")));
        assert_eq!(known_predicate("https://spdx.dev/Document"), Some(("sbom", "SPDX")));
        assert_eq!(known_predicate("https://example.org/x"), None);
    }
}
