//! What names what: an index its manifests, a manifest its layers and its configuration.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::{Layout, LayoutError};

/// Docker's own types of the same documents.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Indexes of indexes of manifests.
const DEEPEST: usize = 5;

/// Whether it names one manifest for each of several platforms.
#[must_use]
pub fn is_index(descriptor: &Descriptor) -> bool {
    [MediaType::ImageIndex.as_ref(), DOCKER_LIST].contains(&descriptor.media_type().as_ref())
}

/// Whether it names layers.
#[must_use]
pub fn is_manifest(descriptor: &Descriptor) -> bool {
    [MediaType::ImageManifest.as_ref(), DOCKER_MANIFEST].contains(&descriptor.media_type().as_ref())
}

impl Layout {
    /// What a content that is there names, if it is one that names others.
    pub fn parts(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, LayoutError> {
        if is_index(descriptor) {
            let index: ImageIndex = self.document(descriptor)?;
            return Ok(index.manifests().clone());
        }
        if is_manifest(descriptor) {
            let manifest: ImageManifest = self.document(descriptor)?;
            return Ok(manifest.layers().iter().chain([manifest.config()]).cloned().collect());
        }
        Ok(Vec::new())
    }

    /// Says what is missing of an image. Of an index there may be only some platforms: those that `docker save` had, or
    /// that were pulled.
    pub fn is_whole(&self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        self.is_whole_below(descriptor, 0)
    }

    fn is_whole_below(&self, descriptor: &Descriptor, depth: usize) -> Result<(), LayoutError> {
        if !self.has(descriptor) {
            return Err(LayoutError::Missing(descriptor.digest().clone()));
        }
        let depth = deeper(depth)?;
        let mut parts = self.parts(descriptor)?;
        if is_index(descriptor) && parts.iter().any(|part| self.has(part)) {
            parts.retain(|part| self.has(part));
        }
        parts.iter().try_for_each(|part| self.is_whole_below(part, depth))
    }

    /// A content and all that it names and that is there, by their digests.
    pub fn reachable(&self, from: &Descriptor) -> Result<BTreeMap<String, Descriptor>, LayoutError> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![(from.clone(), 0)];
        while let Some((descriptor, depth)) = ahead.pop() {
            if self.has(&descriptor) && !found.contains_key(descriptor.digest().as_ref()) {
                let depth = deeper(depth)?;
                ahead.extend(self.parts(&descriptor)?.into_iter().map(|part| (part, depth)));
                found.insert(descriptor.digest().to_string(), descriptor);
            }
        }
        Ok(found)
    }
}

/// One step further down, where that does not go on without end.
pub fn deeper(depth: usize) -> Result<usize, LayoutError> {
    if depth < DEEPEST { Ok(depth.saturating_add(1)) } else { Err(LayoutError::Depth) }
}
