//! Images of containers in the layout: what is in them, and how they come there.

mod config;
mod export;
mod graph;
mod import;
mod inspect;
mod lists;

use std::io::{self, Read};
use std::sync::Arc;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};

pub use config::LabelError;
pub use export::{ExportError, export};
#[cfg(feature = "fuzzing")]
pub(crate) use import::import_into;
pub use import::{ImportError, Imported, import};
pub use inspect::inspect;

use crate::architecture::Architecture;
use crate::layer::{self, Budget, Compression, LayerError, Limits};
use crate::layout::{Layout, LayoutError};
use crate::provenance::{ImageId, Layer, Material, Origin};
use crate::rootfs::{Spool, Tree};
use crate::sbom::attestation::Listed;
use crate::spec::OwnConfig;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("it has no part for linux/{wanted}; it has {found}")]
    Platform { wanted: String, found: String },
    #[error("{0} is no image of a container")]
    Kind(MediaType),
    #[error("indexes inside one another, without end")]
    Depth,
    #[error("layer {number} of {count} ({digest}) cannot be unpacked")]
    Layer { number: usize, count: usize, digest: String, source: LayerError },
    #[error("layer {number} is of the type {media_type}, which is not known")]
    LayerType { number: usize, media_type: String },
    #[error(transparent)]
    Label(#[from] LabelError),
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

impl Image {
    /// The image of a name, if the layout has it.
    pub(crate) fn find(
        layout: &Layout,
        name: &str,
        architecture: Architecture,
    ) -> Result<Option<Self>, ImageError> {
        let Some(descriptor) = layout.find(name)? else { return Ok(None) };
        let (descriptor, lists) = for_platform(layout, descriptor, architecture)?;
        let manifest: ImageManifest = layout.document(&descriptor)?;
        let configuration: ImageConfiguration = layout.document(manifest.config())?;
        Ok(Some(Self {
            config: config::of(name, &configuration)?,
            layers: manifest.layers().clone(),
            lists,
            id: ImageId { name: name.to_owned(), digest: Some(descriptor.digest().to_string()) },
        }))
    }

    /// What its builder says is in it.
    pub(crate) fn listed(&self, layout: &Layout) -> Result<Vec<Listed>, ImageError> {
        Ok(lists::read(layout, &self.lists)?)
    }

    /// All layers, one over the other.
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
        Ok(tree)
    }
}

/// The manifest for this processor, through indexes, and the lists of what is in it.
fn for_platform(
    layout: &Layout,
    mut descriptor: Descriptor,
    architecture: Architecture,
) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
    const DEEPEST: usize = 4;
    let wanted = Arch::from(architecture.debian);
    let mut lists = Vec::new();
    for _ in 0..DEEPEST {
        match descriptor.media_type() {
            MediaType::ImageManifest => return Ok((descriptor, lists)),
            MediaType::ImageIndex => {}
            MediaType::Other(other) if other == DOCKER_MANIFEST => return Ok((descriptor, lists)),
            MediaType::Other(other) if other == DOCKER_LIST => {}
            other => return Err(ImageError::Kind(other.clone())),
        }
        let index: ImageIndex = layout.document(&descriptor)?;
        let is_right = |each: &&Descriptor| {
            each.platform()
                .as_ref()
                .is_none_or(|platform| *platform.os() == Os::Linux && *platform.architecture() == wanted)
        };
        let Some(found) = index.manifests().iter().find(is_right) else {
            let platforms = index.manifests().iter().filter_map(|each| each.platform().as_ref());
            let found: Vec<_> =
                platforms.map(|each| format!("{}/{}", each.os(), each.architecture())).collect();
            return Err(ImageError::Platform { wanted: wanted.to_string(), found: found.join(", ") });
        };
        lists = lists::of(layout, &index, found);
        descriptor = found.clone();
    }
    Err(ImageError::Depth)
}

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[cfg(test)]
mod tests;
