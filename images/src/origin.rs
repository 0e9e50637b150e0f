//! Where each image of a definition comes from: a component of mvm's own, or the layout.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use oci_spec::image::Digest;

use crate::architecture::Architecture;
use crate::build;
use crate::component;
use crate::error::Error;
use crate::files::Key;
use crate::image::{self, Image, Whole};
use crate::kernel::KernelError;
use crate::layout::Layout;
use crate::lock::{Lock, Name};
use crate::locking;
use crate::packages::{Packages, PackagesError};
use crate::piece;
use crate::progress::{Stage, Unit};
use crate::provenance::ImageId;
use crate::recipe::Component;
use crate::request::Directories;
use crate::rootfs::bundle::Made;
use crate::rootfs::{Spool, Tree, pack};
use crate::scratch::Scratch;
use crate::source::Source;
use crate::spec::{Definition, OwnConfig};
use crate::store::StoreError;
use crate::tools;

enum Origin<'a> {
    Component(&'a str),
    Stored(Box<Image>),
}

/// All images of a definition but the kernel's, by what it calls them.
pub(crate) struct Origins<'a> {
    layout: &'a Layout,
    architecture: Architecture,
    all: BTreeMap<&'a str, Origin<'a>>,
    /// Those that are wanted as they are, by their volumes.
    whole: BTreeMap<&'a str, Whole>,
}

/// What is used again of what earlier builds have unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Nothing: everything is made from what it comes from.
    Nothing,
    /// What is kept.
    Kept,
    /// What is kept, and the rest is kept for the next build.
    AndKeep,
}

/// The images of a definition, made.
#[derive(Debug, Default)]
pub(crate) struct Images<'a> {
    /// Unpacked, by what the definition calls them.
    pub(crate) unpacked: BTreeMap<&'a str, Made>,
    /// As they are, by the volumes that hold them.
    pub(crate) whole: BTreeMap<&'a str, Made>,
}

impl<'a> Origins<'a> {
    /// Every name is looked up once: all that follows is of the same image.
    pub(crate) fn of(
        definition: &'a Definition,
        (layout, lock): (&'a Layout, &Lock),
        architecture: Architecture,
    ) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for name in definition.unpacked_images() {
            if let Some(component) = component::name_of(name) {
                all.insert(name, Origin::Component(component));
                continue;
            }
            let image = Image::locked(name, (layout, lock), architecture)?;
            all.insert(name, Origin::Stored(Box::new(image)));
        }
        let mut whole = BTreeMap::new();
        for (volume, name) in definition.whole_images() {
            if component::name_of(name).is_some() {
                return Err(Error::NoWhole { volume: volume.name.clone(), image: name.to_owned() });
            }
            let image = Whole::of(layout, name, image::found(layout, lock, name)?, &volume.platforms);
            let image = image.map_err(|source| Error::Image { name: name.to_owned(), source })?;
            whole.insert(volume.name.as_str(), image);
        }
        Ok(Self { layout, architecture, all, whole })
    }

    /// The packages of all components.
    pub(crate) fn packages(&self) -> Result<BTreeSet<Name>, Error> {
        let mut all = BTreeSet::new();
        for component in self.components() {
            all.extend(Component::load(component)?.package_names(self.architecture.debian));
        }
        Ok(all)
    }

    fn components(&self) -> BTreeSet<&'a str> {
        let component = |origin: &Origin<'a>| match origin {
            Origin::Component(name) => Some(*name),
            Origin::Stored(_) => None,
        };
        self.all.values().filter_map(component).collect()
    }

    /// Adds what all of them depend on.
    pub(crate) fn key(&self, mut key: Key, packages: &Packages<'_>) -> Result<Key, Error> {
        for (name, origin) in &self.all {
            key = origin.key(key.with(name), packages)?;
            if let Origin::Stored(image) = origin {
                key = image.lists.iter().fold(key, |key, list| key.with(list.digest().as_ref() as &str));
            }
        }
        for (volume, image) in &self.whole {
            key = whole_key(key.with(volume), image, self.layout)?;
        }
        Ok(key)
    }

    fn unpack(
        &self,
        name: &str,
        origin: &Origin<'_>,
        packages: &Packages<'_>,
        spool: &Spool,
    ) -> Result<Tree, Error> {
        match origin {
            Origin::Component(component) => {
                Ok(component::make(component, &component_id(name), packages, spool)?)
            }
            Origin::Stored(image) => {
                Stage::run(packages.progress, &format!("{name}: unpack"), || image.unpack(self.layout, spool))
                    .map_err(|source| failed(name, source))
            }
        }
    }

    /// Makes or unpacks all of them.
    pub(crate) fn make(
        &self,
        packages: &Packages<'_>,
        spool: &Spool,
        reuse: Reuse,
    ) -> Result<Images<'a>, Error> {
        packages.fetch(&self.packages()?)?;
        let make = |(name, origin): (&&'a str, &Origin<'a>)| {
            let (piece, unpack) =
                (origin.piece(name, packages)?, || self.unpack(name, origin, packages, spool));
            let tree = kept((name, &piece), packages, reuse, unpack)?;
            let made = match origin {
                Origin::Component(component) => Made {
                    tree,
                    config: Component::load(component)?.config.into(),
                    id: component_id(name),
                    listed: Vec::new(),
                },
                Origin::Stored(image) => Made {
                    tree,
                    config: image.config.clone(),
                    id: image.id.clone(),
                    listed: image.listed(self.layout).map_err(|source| failed(name, source))?,
                },
            };
            Ok((*name, made))
        };
        let unpacked = self.all.iter().map(make).collect::<Result<_, Error>>()?;
        let whole = |(volume, image): (&&'a str, &Whole)| {
            let failed = |source| failed(&image.name, source);
            let key = whole_key(Key::default().with(build::CODE).with(&image.name), image, self.layout)?;
            let piece = format!("image-{}", key.short());
            let unpack = || image.unpack(self.layout, spool).map_err(failed);
            let made = Made {
                tree: kept((&image.name, &piece), packages, reuse, unpack)?,
                config: OwnConfig::default(),
                id: image.id(),
                listed: image.listed(self.layout).map_err(failed)?,
            };
            Ok((*volume, made))
        };
        Ok(Images { unpacked, whole: self.whole.iter().map(whole).collect::<Result<_, Error>>()? })
    }
}

/// Adds what an image as it is consists of: the platforms that are here.
fn whole_key(key: Key, image: &Whole, layout: &Layout) -> Result<Key, Error> {
    let contents = image.contents(layout).map_err(StoreError::from)?;
    Ok(contents.iter().fold(key.with(image.digest()), Key::with))
}

impl Origin<'_> {
    /// Adds what the tree depends on.
    fn key(&self, mut key: Key, packages: &Packages<'_>) -> Result<Key, Error> {
        match self {
            Origin::Component(name) => {
                for (path, bytes) in Component::sources(name) {
                    key = key.with(path).with(bytes);
                }
                let architecture = Architecture::host().map_err(KernelError::from)?;
                for package in Component::load(name)?.package_names(architecture.debian) {
                    key = key.with(&packages.lock.pin(&package).map_err(PackagesError::from)?.sha256);
                }
                Ok(key.with(tools::key("binutils", packages)?))
            }
            Origin::Stored(image) => Ok(key.with(image.id.to_string())),
        }
    }

    /// The file that it is kept in, as what a definition calls it by that name.
    fn piece(&self, name: &str, packages: &Packages<'_>) -> Result<String, Error> {
        let key = self.key(Key::default().with(build::CODE).with(name), packages)?.short();
        Ok(match self {
            Origin::Component(component) => format!("{component}-{key}"),
            Origin::Stored(_) => format!("image-{key}"),
        })
    }
}

/// The files in which the components of a definition are kept, whether they are there or not.
pub(crate) fn pieces(definition: &Definition, packages: &Packages<'_>) -> Result<BTreeSet<String>, Error> {
    let components = definition.unpacked_images().filter_map(|name| Some((name, component::name_of(name)?)));
    components.map(|(name, component)| Origin::Component(component).piece(name, packages)).collect()
}

/// The tree that is kept as `piece`, or a new one, kept if that is wanted. What cannot be kept, or read again, is told and made
/// again the next time: nothing but time is lost.
fn kept(
    (name, piece): (&str, &str),
    packages: &Packages<'_>,
    reuse: Reuse,
    unpack: impl FnOnce() -> Result<Tree, Error>,
) -> Result<Tree, Error> {
    if reuse == Reuse::Nothing {
        return unpack();
    }
    let directory = packages.directories.pieces();
    let piece = &directory.join(piece);
    let title = format!("{name}: compress");
    let stage = || Stage::start(packages.progress, &title, None, Unit::Files);
    let lost = |stage: &Stage<'_>, action: &str, error: io::Error| {
        stage.say(&format!("cannot {action} {}, and goes on without: {error}", piece.display()));
    };
    match piece::read(piece) {
        Ok(Some(tree)) => return Ok(tree),
        Ok(None) => {}
        Err(error) => {
            let stage = stage();
            lost(&stage, "read", error);
            stage.end();
        }
    }
    let mut tree = unpack()?;
    if reuse == Reuse::AndKeep {
        let stage = stage();
        let packed = Scratch::below(&directory)
            .and_then(|scratch| pack::pack(&mut tree, tempfile::tempfile_in(scratch.path())?))
            .and_then(|()| piece::keep(&tree, piece));
        match packed {
            Ok(kept) => tree = kept,
            Err(error) => lost(&stage, "keep", error),
        }
        stage.end();
    }
    Ok(tree)
}

/// Of one that is made by recipe.
fn component_id(name: &str) -> ImageId {
    ImageId { name: name.to_owned(), digest: None }
}

fn failed(name: &str, source: image::ImageError) -> Error {
    Error::Image { name: name.to_owned(), source }
}

/// An image of others that a build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// As the definition has it.
    pub name: String,
    /// What the lock says it is.
    pub digest: Option<Digest>,
    pub is_here: bool,
}

/// The images of others that a definition names, to be pulled where they are missing.
pub fn needed(source: &Source, directories: &Directories) -> Result<Vec<Needed>, Error> {
    let (definition, layout) =
        (source.read()?, Layout::open(&directories.images()).map_err(StoreError::from)?);
    let lock = locking::effective(source, directories)?;
    let names: BTreeSet<_> = definition.foreign_images().collect();
    let needed = names.into_iter().map(|name| {
        // A lock that lacks a name is for the build to refuse.
        let digest = lock.image(name).ok().flatten();
        let is_here = image::stored(&layout, name, digest).map_err(StoreError::from)?.is_some();
        Ok(Needed { name: name.to_owned(), digest: digest.cloned(), is_here })
    });
    needed.collect()
}
