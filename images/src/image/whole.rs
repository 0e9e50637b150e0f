//! An image as it is, with its manifests and packed layers: what a volume of the format `oci` holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, MediaType, Platform};

use super::{ImageError, lists};
use crate::layout::graph::is_index;
use crate::layout::{self, Layout, LayoutError};
use crate::provenance::{ImageId, Material, Origin};
use crate::rootfs::{Content, Entry, Spool, Tree};
use crate::sbom::attestation::Listed;

/// An image, found, with the platforms that were asked for.
#[derive(Debug)]
pub(crate) struct Whole {
    /// What the definition calls it.
    pub(crate) name: String,
    /// What the name stands for.
    named: Descriptor,
    /// The index of those platforms that were asked for; none where all were.
    index: Option<ImageIndex>,
}

impl Whole {
    /// What the layout has as `descriptor`, which goes by that name, for some platforms (`linux/arm64`), or for all that are
    /// there.
    pub(crate) fn of(
        layout: &Layout,
        name: &str,
        named: Descriptor,
        platforms: &[String],
    ) -> Result<Self, ImageError> {
        layout.is_whole(&named)?;
        let name = name.to_owned();
        // What is for one platform only does not say which.
        if platforms.is_empty() || !is_index(&named) {
            return Ok(Self { name, named, index: None });
        }
        let mut index: ImageIndex = layout.document(&named)?;
        let all = index.manifests();
        let is = |each: &Descriptor, wanted: &str| {
            each.platform().as_ref().is_some_and(|platform| matches(platform, wanted))
        };
        for wanted in platforms {
            let found = all.iter().find(|each| is(each, wanted)).ok_or_else(|| {
                let found = all.iter().filter_map(|each| each.platform().as_ref());
                let found: Vec<_> =
                    found.map(|each| format!("{}/{}", each.os(), each.architecture())).collect();
                ImageError::Platform { wanted: wanted.clone(), found: found.join(", ") }
            })?;
            if !layout.has(found) {
                return Err(ImageError::NotHere(wanted.clone()));
            }
            layout.is_whole(found)?;
        }
        let chosen = all.iter().filter(|each| platforms.iter().any(|wanted| is(each, wanted)));
        let chosen: Vec<_> = chosen.cloned().collect();
        index.set_manifests(chosen);
        Ok(Self { name, named, index: Some(index) })
    }

    /// What all that is in it follows from, beside the platforms.
    pub(crate) fn digest(&self) -> &str {
        self.named.digest().as_ref()
    }

    /// The digests of all that is in it.
    pub(crate) fn contents(&self, layout: &Layout) -> Result<Vec<String>, LayoutError> {
        Ok(self.blobs(layout)?.into_keys().collect())
    }

    /// What its builder says is in it, whatever platform it is for.
    pub(crate) fn listed(&self, layout: &Layout) -> Result<Vec<Listed>, ImageError> {
        if !is_index(&self.named) {
            return Ok(Vec::new());
        }
        let all: ImageIndex = layout.document(&self.named)?;
        let images = self.index.as_ref().unwrap_or(&all).manifests();
        let lists: Vec<_> = images.iter().flat_map(|image| lists::of(layout, &all, image)).collect();
        Ok(lists::read(layout, &lists)?)
    }

    /// Which it is.
    pub(crate) fn id(&self) -> ImageId {
        ImageId { name: self.name.clone(), digest: Some(self.digest().to_owned()) }
    }

    fn blobs(&self, layout: &Layout) -> Result<BTreeMap<String, Descriptor>, LayoutError> {
        let Some(index) = &self.index else { return layout.reachable(&self.named) };
        let mut blobs = BTreeMap::new();
        for manifest in index.manifests() {
            blobs.append(&mut layout.reachable(manifest)?);
        }
        Ok(blobs)
    }

    /// Its files, as an image layout.
    pub(crate) fn unpack(&self, layout: &Layout, spool: &Spool) -> Result<Tree, ImageError> {
        let mut named = self.named.clone();
        let mut tree = Tree::default();
        let origin = &Arc::new(Origin { item: None, image: Some(self.id()), material: Material::Whole });
        if let Some(index) = &self.index {
            // By way of a value, whose keys are sorted: annotations have another order each time.
            let bytes = serde_json::to_value(index)
                .map_err(oci_spec::OciSpecError::from)
                .map_err(LayoutError::from)?;
            let bytes = bytes.to_string().into_bytes();
            let chosen = layout::described(MediaType::ImageIndex.as_ref(), &bytes)?;
            put(&mut tree, chosen.digest().as_ref(), bytes.into(), origin);
            named = chosen;
        }
        for (digest, blob) in &self.blobs(layout)? {
            let damaged = |source| LayoutError::Damaged { path: layout.blob(blob.digest()), source };
            put(&mut tree, digest, spool.add(layout.read(blob)?).map_err(damaged)?, origin);
        }
        named.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), self.name.clone())])));
        for (path, text) in layout::documents(vec![named])? {
            tree.put(path, Entry::file(0o644, text.into_bytes()).of(origin));
        }
        Ok(tree)
    }
}

fn put(tree: &mut Tree, digest: &str, content: Content, origin: &Arc<Origin>) {
    let path = format!("blobs/{}", digest.replacen(':', "/", 1));
    tree.put(&path, Entry::file(0o644, content).of(origin));
}

/// `OS/ARCHITECTURE[/VARIANT]`; without a variant, any.
fn matches(platform: &Platform, wanted: &str) -> bool {
    let mut parts = wanted.splitn(3, '/');
    let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
    os == Some(platform.os().to_string().as_str())
        && architecture == Some(platform.architecture().to_string().as_str())
        && variant.is_none_or(|variant| platform.variant().as_deref() == Some(variant))
}
