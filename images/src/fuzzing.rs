//! What the fuzz targets (`tests/fuzz`) reach of the inside: doors, and nothing behind them that is not elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::architecture::Architecture;
use crate::image::{Image, ImageError, ImportError, Imported, import_into};
use crate::layer::{self, Budget, LayerError, Limits};
use crate::layout::Layout;
use crate::lock::{Lock, LockError};
use crate::provenance::{ImageId, Material, Origin};
use crate::rootfs::bundle::{self, BundleError, Container, Made};
use crate::rootfs::tarball::{self, Records};
use crate::rootfs::{Entry, Node, Spool, Tree};
use crate::spec::{ImageConfig, OwnConfig};
use crate::yaml::Problems;

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

/// What an image says of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(ImageConfig);

pub fn label(what: &str, text: &str) -> Result<Label, Problems> {
    ImageConfig::parse_label(what, text).map(Label)
}

impl Label {
    pub fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.0)
    }

    /// The root of a machine with one container, of an image of one program that says this.
    pub fn container(&self) -> Result<Unpacked, BundleError> {
        let mut tree = Tree::default();
        tree.put("bin/x", Entry::file(0o755, *b"x"));
        tree.put("sbin", Entry::symlink("bin"));
        let id = ImageId { name: "x".to_owned(), digest: None };
        let made = Made { tree, config: OwnConfig::from(self.0.clone()), id, listed: Vec::new() };
        let config = made.config.merged();
        let place = "containers/services/a".to_owned();
        let container = Container { place, name: "a", image: "x", config, item: None };
        let mut root = Tree::default();
        bundle::put_all(&mut root, &[container], &BTreeMap::from([("x", made)]))?;
        Ok(Unpacked(root))
    }
}

/// What a lock says.
#[derive(Debug, PartialEq, Eq)]
pub struct Locked(Lock);

pub fn lock(text: &str) -> Result<Locked, LockError> {
    Lock::parse(text).map(Locked)
}

impl Locked {
    pub fn text(&self) -> Result<String, LockError> {
        self.0.to_text()
    }

    /// The words that apt may get of it.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.words()
    }
}

/// Takes images over from another layout.
pub fn import(layout: &Path, from: &Path) -> Result<Vec<Imported>, ImportError> {
    import_into(layout, from, None)
}

/// Whether there is an image of that name for this machine.
pub fn find(layout: &Path, name: &str) -> Result<bool, ImageError> {
    let Ok(architecture) = Architecture::host() else { return Ok(false) };
    let layout = Layout::open(layout)?;
    let Some(found) = layout.find(name)? else { return Ok(false) };
    Image::of(&layout, name, found, architecture).map(|_| true)
}
