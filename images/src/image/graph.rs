//! What names what: an index its manifests, a manifest its layers and its configuration.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::{DOCKER_LIST, DOCKER_MANIFEST};
use crate::layout::{Layout, LayoutError};

/// Whether everything that an image is made of is in the layout. Of an index, `docker save` has the platforms that its
/// store has.
pub(super) fn is_whole(layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<(), LayoutError> {
    if !layout.has(descriptor) {
        return Err(LayoutError::Missing(descriptor.digest().clone()));
    }
    let mut parts = parts(layout, descriptor, depth)?;
    if is_index(descriptor) && parts.iter().any(|part| layout.has(part)) {
        parts.retain(|part| layout.has(part));
    }
    parts.iter().try_for_each(|part| is_whole(layout, part, depth.saturating_add(1)))
}

/// What a content names, if it is one that names others.
pub(super) fn parts(
    layout: &Layout,
    descriptor: &Descriptor,
    depth: usize,
) -> Result<Vec<Descriptor>, LayoutError> {
    /// Indexes of indexes of manifests.
    const DEEPEST: usize = 5;
    if depth > DEEPEST {
        return Err(LayoutError::Long(descriptor.digest().clone()));
    }
    if is_index(descriptor) {
        let index: ImageIndex = layout.document(descriptor)?;
        return Ok(index.manifests().clone());
    }
    if [MediaType::ImageManifest.as_ref(), DOCKER_MANIFEST].contains(&descriptor.media_type().as_ref()) {
        let manifest: ImageManifest = layout.document(descriptor)?;
        return Ok(manifest.layers().iter().chain([manifest.config()]).cloned().collect());
    }
    Ok(Vec::new())
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    [MediaType::ImageIndex.as_ref(), DOCKER_LIST].contains(&descriptor.media_type().as_ref())
}

/// A content and all that it names and that is there, by their digests.
pub(super) fn reachable(
    layout: &Layout,
    from: &Descriptor,
) -> Result<BTreeMap<String, Descriptor>, LayoutError> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(from.clone(), 0)];
    while let Some((descriptor, depth)) = ahead.pop() {
        if layout.has(&descriptor) && !found.contains_key(descriptor.digest().as_ref()) {
            let parts = parts(layout, &descriptor, depth)?;
            ahead.extend(parts.into_iter().map(|part| (part, depth.saturating_add(1))));
            found.insert(descriptor.digest().to_string(), descriptor);
        }
    }
    Ok(found)
}
