//! One name for images that are in registries already: an index that lists them, and what it lists brought to its repository.

mod annotation;
mod copy;
mod source;

use std::collections::{HashMap, HashSet};

use images::progress::Progress;
use oci_spec::image::{
    Arch, Descriptor, DescriptorBuilder, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType,
    Os, PlatformBuilder,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub use annotation::IndexAnnotation;
pub use source::{Content, InvalidSource, Placed, Source};

use super::credentials::{CredentialError, Credentials};
use super::details::attested;
use super::inspection::{UnreadableManifest, kind};
use super::{Error, ImageRef, Manifest, Platform, Registry};
use annotation::About;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// No configuration is longer; a registry takes 4 MiB of a manifest.
const LONGEST: usize = 4 << 20;

/// Why nothing got the name.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Registry(#[from] Error),
    #[error(transparent)]
    Unreadable(#[from] UnreadableManifest),
    #[error("the configuration of {image} cannot be read, so its platform is not known")]
    Configuration {
        image: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("nothing of what was named is for {0}; `mvm imagetools inspect` lists what there is")]
    NoPlatform(String),
    #[error(
        "the descriptor of {image} says that its {what} is {said}, and it is {found}; correct it, or give the digest alone"
    )]
    Differs { image: String, what: &'static str, said: String, found: String },
    #[error("{0} lists lists that list lists; nobody could pull that")]
    Depth(String),
    #[error("cannot describe {image}")]
    Describe {
        image: String,
        #[source]
        source: oci_spec::OciSpecError,
    },
}

/// How it is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub annotations: Vec<IndexAnnotation>,
    /// Only these; none is all.
    pub platforms: Vec<Platform>,
    /// One manifest alone stays one, and gets no index around it.
    pub keeps_manifest: bool,
}

/// Something that can get a name.
#[derive(Debug)]
pub struct Joined {
    pub media_type: String,
    pub bytes: Vec<u8>,
    /// What has to be in the repository before, and where it is now.
    parts: Vec<(ImageRef, Descriptor)>,
}

impl Joined {
    pub fn digest(&self) -> String {
        format!("sha256:{:x}", Sha256::digest(&self.bytes))
    }
}

/// Joins images, and pushes what came of it.
#[derive(Clone, Copy)]
pub struct Join<'a> {
    pub credentials: &'a Credentials,
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Join<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}

impl Join<'_> {
    /// The index of all that the sources are or list, each once, in their order. An index alone, or a manifest that is to stay
    /// one, is taken as it is, to the last byte.
    pub async fn of(&self, sources: &[Placed], options: &Options) -> Result<Joined, JoinError> {
        let mut parts: Vec<(ImageRef, Descriptor)> = Vec::new();
        for placed in sources {
            let source = &placed.image;
            let credential = self.credentials.for_registry(source.registry())?;
            let registry = Registry::of(source);
            let manifest = registry.manifest(source, credential.as_ref()).await?;
            let (media_type, is_list) = kind(source, &manifest)?;
            placed.check(&media_type, manifest.bytes.len())?;
            let as_it_is = sources.len() == 1
                && options.annotations.is_empty()
                && options.platforms.is_empty()
                && (is_list || options.keeps_manifest);
            let found = if is_list {
                listed(source, &manifest)?
            } else if as_it_is {
                Vec::new()
            } else {
                vec![self.described(&registry, placed, &media_type, &manifest).await?]
            };
            if as_it_is {
                let own = copy::parts_of(source, &media_type, &manifest, found);
                return Ok(Joined { media_type, bytes: manifest.bytes, parts: own });
            }
            for part in found {
                match parts.iter_mut().find(|(_, known)| known.digest() == part.digest()) {
                    Some((_, known)) => add(known, &part),
                    None => parts.push((source.clone(), part)),
                }
            }
        }
        let parts = wanted(parts, &options.platforms);
        if parts.is_empty() {
            let wanted: Vec<_> = options.platforms.iter().map(ToString::to_string).collect();
            return Err(JoinError::NoPlatform(wanted.join(", ")));
        }
        Ok(index(parts, &options.annotations))
    }

    /// A manifest with the platform that its descriptor or its configuration tells.
    async fn described(
        &self,
        registry: &Registry,
        placed: &Placed,
        media_type: &str,
        manifest: &Manifest,
    ) -> Result<Descriptor, JoinError> {
        let image = || placed.image.to_string();
        let unreadable = |error| JoinError::Configuration { image: image(), source: error };
        let describe = |error| JoinError::Describe { image: image(), source: error };
        let platform = if let Some(platform) = placed.platform() {
            platform
        } else {
            let parsed: ImageManifest = serde_json::from_slice(&manifest.bytes).map_err(unreadable)?;
            let digest = parsed.config().digest().as_ref();
            let bytes = registry.document(&placed.image, digest, LONGEST).await?;
            let config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(unreadable)?;
            platform(&config).map_err(describe)?
        };
        let digest: Digest = manifest.digest.parse().map_err(describe)?;
        let descriptor = DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest)
            .size(manifest.bytes.len() as u64)
            .platform(platform);
        Ok(placed.annotated(descriptor.build().map_err(describe)?))
    }
}

fn platform(config: &ImageConfiguration) -> Result<oci_spec::image::Platform, oci_spec::OciSpecError> {
    let (os, architecture): (&Os, &Arch) = (config.os(), config.architecture());
    let mut platform = PlatformBuilder::default().os(os.clone()).architecture(architecture.clone());
    if let Some(variant) = config.variant() {
        platform = platform.variant(variant.clone());
    }
    if let Some(version) = config.os_version() {
        platform = platform.os_version(version.clone());
    }
    platform.build()
}

/// What is said of something again counts more, and the rest stays.
fn add(known: &mut Descriptor, said: &Descriptor) {
    if let Some(platform) = said.platform() {
        known.set_platform(Some(platform.clone()));
    }
    if let Some(more) = said.annotations() {
        let mut all = known.annotations().clone().unwrap_or_default();
        all.extend(more.clone());
        known.set_annotations(Some(all));
    }
}

fn listed(source: &ImageRef, manifest: &Manifest) -> Result<Vec<Descriptor>, JoinError> {
    let index = ImageIndex::from_reader(manifest.bytes.as_slice());
    let index = index.map_err(|error| JoinError::Describe { image: source.to_string(), source: error })?;
    Ok(index.manifests().clone())
}

/// What is for these platforms, and what is attested of it.
fn wanted(parts: Vec<(ImageRef, Descriptor)>, platforms: &[Platform]) -> Vec<(ImageRef, Descriptor)> {
    if platforms.is_empty() {
        return parts;
    }
    let is_for_them =
        |part: &Descriptor| Platform::of_entry(part).is_some_and(|platform| platforms.contains(&platform));
    let images = parts.iter().filter(|(_, part)| is_for_them(part));
    let digests: HashSet<String> = images.map(|(_, part)| part.digest().to_string()).collect();
    let is_kept = |part: &Descriptor| {
        is_for_them(part) || attested(part).is_some_and(|digest| digests.contains(digest))
    };
    parts.into_iter().filter(|(_, part)| is_kept(part)).collect()
}

/// An index of Docker's where everything in it is, else one of OCI's.
fn index(parts: Vec<(ImageRef, Descriptor)>, annotations: &[IndexAnnotation]) -> Joined {
    let is_dockers = parts.iter().all(|(_, part)| part.media_type().to_string() == DOCKER_MANIFEST);
    let of_index: Map<String, Value> = annotations
        .iter()
        .filter(|annotation| annotation.about == About::Index)
        .map(|annotation| (annotation.key.clone(), json!(annotation.value)))
        .collect();
    // Docker's lists have no annotations.
    let is_dockers = is_dockers && annotations.is_empty();
    let manifests: Vec<Descriptor> = parts.iter().map(|(_, part)| annotated(part, annotations)).collect();
    let media_type = if is_dockers { DOCKER_LIST } else { INDEX };
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    if let Some(object) = index.as_object_mut().filter(|_| !of_index.is_empty()) {
        object.insert("annotations".to_owned(), of_index.into());
    }
    let bytes = format!("{index:#}").into_bytes();
    Joined { media_type: media_type.to_owned(), bytes, parts }
}

fn annotated(part: &Descriptor, annotations: &[IndexAnnotation]) -> Descriptor {
    let mut part = part.clone();
    let of_it = annotations.iter().filter(|annotation| match &annotation.about {
        About::Index => false,
        About::Entries(None) => true,
        About::Entries(wanted) => *wanted == Platform::of_entry(&part),
    });
    let more: HashMap<_, _> =
        of_it.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect();
    if !more.is_empty() {
        let mut all = part.annotations().clone().unwrap_or_default();
        all.extend(more);
        part.set_annotations(Some(all));
    }
    part
}

/// Whether it lists others.
fn is_list(descriptor: &Descriptor) -> bool {
    *descriptor.media_type() == MediaType::ImageIndex || descriptor.media_type().to_string() == DOCKER_LIST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(platform: &str, media_type: &str, digit: char) -> (ImageRef, Descriptor) {
        let digest: Digest = format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap();
        let (os, architecture) = platform.split_once('/').unwrap();
        let platform = PlatformBuilder::default().os(os).architecture(architecture).build().unwrap();
        let built =
            DescriptorBuilder::default().media_type(media_type).digest(digest).size(7_u64).platform(platform);
        ("x".parse().unwrap(), built.build().unwrap())
    }

    #[test]
    fn an_index_is_of_the_kind_of_what_it_lists() {
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let docker = |digit| part("linux/amd64", DOCKER_MANIFEST, digit);
        assert_eq!(index(vec![docker('a'), docker('b')], &[]).media_type, DOCKER_LIST);
        assert_eq!(index(vec![docker('a'), part("linux/arm64", oci, 'b')], &[]).media_type, INDEX);
        let annotations = ["index:a=1", "manifest-descriptor[linux/arm64]:b=2", "manifest-descriptor:c=3"];
        let annotations = annotations.map(|text| text.parse().unwrap());
        let joined = index(vec![docker('a'), part("linux/arm64", oci, 'b')], &annotations);
        let found: Value = serde_json::from_slice(&joined.bytes).unwrap();
        assert_eq!(found["annotations"], json!({"a": "1"}));
        assert_eq!(found["manifests"][0]["annotations"], json!({"c": "3"}));
        assert_eq!(found["manifests"][1]["annotations"], json!({"b": "2", "c": "3"}));
        assert_eq!(found["manifests"][1]["platform"]["architecture"], "arm64");
        assert_eq!(index(vec![docker('a')], &annotations).media_type, INDEX, "Docker's has no annotations");
    }

    #[test]
    fn wanted_platforms_are_listed_with_what_is_attested_of_them() {
        let arm64 = part("linux/arm64", DOCKER_MANIFEST, 'a');
        let amd64 = part("linux/amd64", DOCKER_MANIFEST, 'b');
        let about = |(_, image): &(ImageRef, Descriptor), digit| {
            let (name, mut attestation) = part("unknown/unknown", DOCKER_MANIFEST, digit);
            let digest = image.digest().to_string();
            let annotation = ("vnd.docker.reference.digest".to_owned(), digest);
            attestation.set_annotations(Some(HashMap::from([annotation])));
            (name, attestation)
        };
        let all = vec![about(&arm64, 'c'), arm64.clone(), amd64.clone(), about(&amd64, 'd')];
        let listed = |platforms: &[Platform]| -> Vec<String> {
            let parts = wanted(all.clone(), platforms);
            parts.iter().map(|(_, part)| part.digest().to_string()[7..8].to_owned()).collect()
        };
        assert_eq!(listed(&["linux/arm64".parse().unwrap()]), ["c", "a"]);
        assert_eq!(listed(&[]), ["c", "a", "b", "d"]);
        assert!(listed(&["linux/s390x".parse().unwrap()]).is_empty());
    }
}
