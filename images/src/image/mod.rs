//! Images of containers in the layout: what is in them, and how they come there.

mod config;
mod dress;
mod export;
mod import;
mod inspect;
mod lists;
mod whole;

use std::io::{self, Read};
use std::sync::Arc;

use oci_spec::image::{
    Arch, Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os,
};

pub use config::LabelError;
pub use export::{ExportError, export};
#[cfg(feature = "fuzzing")]
pub(crate) use import::import_into;
pub use import::{ImportError, Imported, forget, import, import_appliance, keep};
pub use inspect::inspect;
pub(crate) use whole::Whole;

use crate::architecture::{Architecture, UnknownArchitecture};
use crate::error::Error;
use crate::layer::{self, Budget, Compression, LayerError, Limits};
use crate::layout::graph::{deeper, is_index, is_manifest};
use crate::layout::{Layout, LayoutError};
use crate::lock::Lock;
use crate::packages::PackagesError;
use crate::provenance::{ImageId, Layer, Material, Origin};
use crate::rootfs::{Spool, Tree};
use crate::sbom::attestation::Listed;
use crate::spec::OwnConfig;
use crate::store::StoreError;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("it has no part for {wanted}; it has {found}")]
    Platform { wanted: String, found: String },
    #[error("its part for {0} is not here; `mvm image pull --all-platforms` brings it")]
    NotHere(String),
    #[error("{0} is no image of a container")]
    Kind(MediaType),
    #[error("layer {number} of {count} ({digest}) cannot be unpacked")]
    Layer { number: usize, count: usize, digest: String, source: LayerError },
    #[error("layer {number} is of the type {media_type}, which is not known")]
    LayerType { number: usize, media_type: String },
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
}

/// An image for this machine's processor: found and described, its layers not unpacked yet.
#[derive(Debug)]
pub(crate) struct Image {
    layers: Vec<Descriptor>,
    /// What its builder says is in it: documents of SPDX.
    pub(crate) lists: Vec<Descriptor>,
    /// What the image itself says of its container.
    pub(crate) config: OwnConfig,
    /// Its name, and its manifest's digest, which says which image it is.
    pub(crate) id: ImageId,
}

/// What a definition names, as the lock has it.
pub(crate) fn stored(
    layout: &Layout,
    name: &str,
    pinned: Option<&Digest>,
) -> Result<Option<Descriptor>, LayoutError> {
    match pinned {
        Some(digest) => layout.find_digest(digest),
        None => layout.find(name),
    }
}

/// The same, which has to be there.
pub(crate) fn found(layout: &Layout, lock: &Lock, name: &str) -> Result<Descriptor, Error> {
    let pinned = lock.image(name).map_err(PackagesError::from)?;
    let found = stored(layout, name, pinned).map_err(StoreError::from)?;
    found.ok_or_else(|| match pinned {
        Some(digest) => Error::NoLockedImage { name: name.to_owned(), digest: digest.to_string() },
        None => Error::NoImage(name.to_owned()),
    })
}

impl Image {
    /// The image that a definition names, exactly as the lock has it.
    pub(crate) fn locked(
        name: &str,
        (layout, lock): (&Layout, &Lock),
        architecture: Architecture,
    ) -> Result<Self, Error> {
        let image = Self::of(layout, name, found(layout, lock, name)?, architecture);
        image.map_err(|source| Error::Image { name: name.to_owned(), source })
    }

    /// Its manifest's.
    pub(crate) fn digest(&self) -> &str {
        self.id.digest.as_deref().unwrap_or_default()
    }

    /// What the layout has as `descriptor`, which goes by that name.
    pub(crate) fn of(
        layout: &Layout,
        name: &str,
        descriptor: Descriptor,
        architecture: Architecture,
    ) -> Result<Self, ImageError> {
        let (descriptor, lists) = for_platform(layout, descriptor, architecture)?;
        let manifest: ImageManifest = layout.document(&descriptor)?;
        let configuration: ImageConfiguration = layout.document(manifest.config())?;
        Ok(Self {
            config: config::of(name, &configuration)?,
            layers: manifest.layers().clone(),
            lists,
            id: ImageId { name: name.to_owned(), digest: Some(descriptor.digest().to_string()) },
        })
    }

    /// What its builder says is in it.
    pub(crate) fn listed(&self, layout: &Layout) -> Result<Vec<Listed>, ImageError> {
        Ok(lists::read(layout, &self.lists)?)
    }

    /// All layers, one over the other, and with that what every container has.
    pub(crate) fn unpack(&self, layout: &Layout, spool: &Spool) -> Result<Tree, ImageError> {
        let (mut tree, mut budget) = (Tree::default(), Budget::new(Limits::default()));
        let count = self.layers.len();
        for (number, layer) in (1..).zip(&self.layers) {
            let media_type = layer.media_type().to_string();
            let compression =
                Compression::of(&media_type).ok_or(ImageError::LayerType { number, media_type })?;
            let mut blob = layout.read(layer)?;
            let digest = layer.digest().to_string();
            let origin = Arc::new(Origin {
                item: None,
                image: Some(self.id.clone()),
                material: Material::Layer(Layer { number, count, digest: digest.clone() }),
            });
            let archive = layer::inflate(compression, &mut blob);
            let unpacked = layer::apply(&mut tree, archive, &origin, spool, &mut budget);
            // What follows the archive counts for the digest, too. A wrong one is the reason for whatever else went wrong.
            let unpacked = match io::copy(&mut blob.by_ref(), &mut io::sink()) {
                Err(error) => Err(error.into()),
                Ok(_) => unpacked,
            };
            unpacked.map_err(|source| ImageError::Layer { number, count, digest, source })?;
        }
        let image = Some(self.id.clone());
        dress::dress(&mut tree, &Arc::new(Origin { item: None, image, material: Material::Docker }));
        Ok(tree)
    }
}

/// The manifest for this processor, through indexes, and the lists of what is in it.
fn for_platform(
    layout: &Layout,
    mut descriptor: Descriptor,
    architecture: Architecture,
) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
    let (mut depth, mut lists) = (0, Vec::new());
    while !is_manifest(&descriptor) {
        if !is_index(&descriptor) {
            return Err(ImageError::Kind(descriptor.media_type().clone()));
        }
        depth = deeper(depth)?;
        let index: ImageIndex = layout.document(&descriptor)?;
        let found = chosen(&index, architecture)?;
        lists = lists::of(layout, &index, found);
        descriptor = found.clone();
    }
    Ok((descriptor, lists))
}

/// What an index has for this machine's processor.
pub fn for_this_machine(index: &ImageIndex) -> Result<&Descriptor, ImageError> {
    chosen(index, Architecture::host()?)
}

/// The manifests that an index has of what was said of one of its others.
pub fn attestations<'a>(
    index: &'a ImageIndex,
    image: &'a Descriptor,
) -> impl Iterator<Item = &'a Descriptor> {
    index.manifests().iter().filter(|each| lists::is_attestation(each, image))
}

fn chosen(index: &ImageIndex, architecture: Architecture) -> Result<&Descriptor, ImageError> {
    let wanted = Arch::from(architecture.debian);
    let is_right = |each: &&Descriptor| {
        each.platform()
            .as_ref()
            .is_none_or(|platform| *platform.os() == Os::Linux && *platform.architecture() == wanted)
    };
    index.manifests().iter().find(is_right).ok_or_else(|| {
        let platforms = index.manifests().iter().filter_map(|each| each.platform().as_ref());
        let found: Vec<_> = platforms.map(|each| format!("{}/{}", each.os(), each.architecture())).collect();
        ImageError::Platform { wanted: format!("linux/{wanted}"), found: found.join(", ") }
    })
}

#[cfg(test)]
mod tests;
