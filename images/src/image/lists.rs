//! What the builder of an image says is in it: attestations, which lie beside the image in its index, as BuildKit puts them
//! there.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use crate::layout::{Layout, LayoutError};
use crate::sbom::attestation::{self, Listed, PREDICATE_TYPE, SPDX};

/// By what an index says that a manifest is of another one, and of which.
const KIND: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
const SUBJECT: &str = "vnd.docker.reference.digest";

/// The documents of SPDX that an index has of one of its manifests, as far as they are there.
pub(super) fn of(layout: &Layout, index: &ImageIndex, image: &Descriptor) -> Vec<Descriptor> {
    let attestations =
        index.manifests().iter().filter(|each| is_attestation(each, image) && layout.has(each));
    // One that cannot be read says nothing of the image.
    let manifests = attestations.filter_map(|each| layout.document::<ImageManifest>(each).ok());
    let layers = manifests.flat_map(|manifest| manifest.layers().clone());
    layers.filter(|layer| says(layer, PREDICATE_TYPE, SPDX) && layout.has(layer)).collect()
}

/// Whether it is what a builder says of an image.
pub(super) fn is_attestation(each: &Descriptor, image: &Descriptor) -> bool {
    says(each, KIND, ATTESTATION) && says(each, SUBJECT, image.digest().as_ref())
}

/// What they list.
pub(super) fn read(layout: &Layout, lists: &[Descriptor]) -> Result<Vec<Listed>, LayoutError> {
    let mut listed = Vec::new();
    for list in lists {
        let path = layout.blob(list.digest());
        let read = attestation::read(layout.read(list)?);
        listed.extend(read.map_err(|source| LayoutError::Io { action: "read", path, source })?);
    }
    Ok(listed)
}

fn says(descriptor: &Descriptor, key: &str, value: &str) -> bool {
    descriptor.annotations().as_ref().and_then(|all| all.get(key)).is_some_and(|found| found == value)
}
