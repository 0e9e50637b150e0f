//! The share that one node has of a build whose platforms several nodes build.

use std::io;

use thiserror::Error;

use super::output::Kind;
use super::{Annotation, Build, Output};
use crate::registry::{ImageRef, IndexAnnotation, Platform};

/// What several nodes cannot do together.
#[derive(Debug, Error)]
pub enum ShareError {
    #[error(
        "type={0} is made by one node, and these platforms need several; push the image, or build one platform at a time"
    )]
    Output(&'static str),
    #[error("several nodes can push one image only; name one output of type=registry, and all names with it")]
    Images,
    #[error(
        "push-by-digest is for the image of one node, and the platforms of several are joined under a name; leave it out"
    )]
    ByDigest,
    #[error(
        "each node would write --cache-to over that of the others; leave it out, use type=inline, or build one platform at a time"
    )]
    Cache,
    #[error(
        "cannot keep the context that comes through standard input, which every node needs, in a temporary file"
    )]
    Spool(#[source] io::Error),
}

impl Build {
    /// What the node of these platforms builds.
    pub(in crate::builder) fn share(&self, platforms: Vec<Platform>) -> Self {
        let annotations = self.annotations.iter().map(Annotation::without_index).collect();
        Self { platforms, annotations, is_share: true, ..self.clone() }
    }

    /// Makes the whole ready to be shared out, or refuses what only one node could do.
    pub(in crate::builder) fn prepare_shares(&mut self) -> Result<(), ShareError> {
        let outputs = self.outputs();
        let is_of_one = |output: &&Output| matches!(output.kind, Kind::Oci | Kind::Docker | Kind::Tar);
        if let Some(output) = outputs.iter().find(is_of_one) {
            return Err(ShareError::Output(output.kind.name()));
        }
        if outputs.iter().filter(|output| output.is_pushed()).count() > 1 {
            return Err(ShareError::Images);
        }
        if outputs.iter().any(Output::is_by_digest) {
            return Err(ShareError::ByDigest);
        }
        if self.cache_to.iter().any(|cache| !cache.is_inline()) {
            return Err(ShareError::Cache);
        }
        self.source.spool().map_err(ShareError::Spool)
    }

    /// The names that the index of all shares gets.
    pub(in crate::builder) fn pushed_names(&self) -> Vec<ImageRef> {
        let outputs = self.outputs();
        let pushed = outputs.iter().filter(|output| output.is_pushed());
        pushed.flat_map(|output| self.names_of(output)).cloned().collect()
    }

    /// What is said of that index.
    pub(in crate::builder) fn index_annotations(&self) -> Vec<IndexAnnotation> {
        let own = self.annotations.iter().filter_map(Annotation::of_index);
        own.map(|(key, value)| IndexAnnotation::of_index(key, value)).collect()
    }

    /// Each node keeps an image of its own platforms, and nothing has all of them.
    pub(in crate::builder) fn stays_apart(&self) -> bool {
        let outputs = self.outputs();
        outputs.iter().any(|output| output.kind == Kind::Image) && !outputs.iter().any(Output::is_pushed)
    }
}
