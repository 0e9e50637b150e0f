//! What the fuzz targets (`tests/fuzz`) reach of the inside: doors, and nothing behind them that is not elsewhere.

use std::path::Path;
use std::sync::Arc;

use crate::layer::{self, Budget, LayerError, Limits};
use crate::provenance::{Material, Origin};
use crate::rootfs::tarball::{self, Records};
use crate::rootfs::{Node, Spool, Tree};

/// What layers, one over the other, make; contents lie in a file below `scratch`.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked(Tree);

pub fn unpack(layers: &[&[u8]], scratch: &Path) -> Result<Unpacked, LayerError> {
    let spool = Spool::below(scratch)?;
    let mut tree = Tree::default();
    let mut budget = Budget::new(Limits { entries: 1000, bytes: 1 << 22 });
    let origin = Arc::new(Origin::own(Material::File));
    for bytes in layers {
        layer::apply(&mut tree, *bytes, &origin, &spool, &mut budget)?;
    }
    Ok(Unpacked(tree))
}

impl Unpacked {
    /// Every path, and whether it is a directory.
    pub fn paths(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.entries().map(|(path, entry)| (path, entry.node == Node::Directory))
    }

    /// It as a layer.
    pub fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tarball::write(&self.0, Records::None, &mut bytes)?;
        Ok(bytes)
    }
}
