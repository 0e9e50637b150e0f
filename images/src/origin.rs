//! Where each image of a definition comes from: a component of mvm's own, or the layout.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::Digest;

use crate::architecture::Architecture;
use crate::component;
use crate::error::Error;
use crate::files::Key;
use crate::image::{self, Image, Whole};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::locking;
use crate::packages::{Packages, PackagesError};
use crate::progress::Stage;
use crate::provenance::ImageId;
use crate::recipe::Component;
use crate::request::Directories;
use crate::rootfs::bundle::Made;
use crate::rootfs::{Spool, Tree};
use crate::source::Source;
use crate::spec::Definition;
use crate::store::StoreError;

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

/// The images of a definition, made.
#[derive(Debug, Default)]
pub(crate) struct Images<'a> {
    /// Unpacked, by what the definition calls them.
    pub(crate) unpacked: BTreeMap<&'a str, Made>,
    /// As they are, by the volumes that hold them.
    pub(crate) whole: BTreeMap<&'a str, Tree>,
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

    fn components(&self) -> BTreeSet<&'a str> {
        let component = |origin: &Origin<'a>| match origin {
            Origin::Component(name) => Some(*name),
            Origin::Stored(_) => None,
        };
        self.all.values().filter_map(component).collect()
    }

    /// Adds what all of them depend on.
    pub(crate) fn key(&self, mut key: Key, packages: &Packages<'_>) -> Result<Key, Error> {
        for name in self.components() {
            for (path, bytes) in Component::sources(name) {
                key = key.with(path).with(bytes);
            }
            for package in Component::load(name)?.package_names(self.architecture.debian) {
                key = key.with(&packages.lock.pin(&package).map_err(PackagesError::from)?.sha256);
            }
        }
        for (name, origin) in &self.all {
            if let Origin::Stored(image) = origin {
                key = key.with(name).with(image.id.to_string());
                key = image.lists.iter().fold(key, |key, list| key.with(list.digest().as_ref() as &str));
            }
        }
        for (volume, image) in &self.whole {
            key = key.with(volume).with(image.digest());
            // Of those platforms that are here.
            for content in image.contents(self.layout).map_err(StoreError::from)? {
                key = key.with(content);
            }
        }
        Ok(key)
    }

    /// Makes or unpacks all of them.
    pub(crate) fn make(&self, packages: &Packages<'_>, spool: &Spool) -> Result<Images<'a>, Error> {
        let mut needed = BTreeSet::new();
        for component in self.components() {
            needed.extend(Component::load(component)?.package_names(self.architecture.debian));
        }
        packages.fetch(&needed)?;
        let make = |(name, origin): (&&'a str, &Origin<'a>)| {
            let made = match origin {
                Origin::Component(component) => {
                    let id = ImageId { name: (*name).to_owned(), digest: None };
                    Made {
                        tree: component::make(component, &id, packages, spool)?,
                        config: Component::load(component)?.config.into(),
                        id,
                        listed: Vec::new(),
                    }
                }
                Origin::Stored(image) => {
                    let title = format!("{name}: unpack");
                    let unpacked = Stage::run(packages.progress, &title, || image.unpack(self.layout, spool));
                    let failed = |source| Error::Image { name: (*name).to_owned(), source };
                    Made {
                        tree: unpacked.map_err(failed)?,
                        config: image.config.clone(),
                        id: image.id.clone(),
                        listed: image.listed(self.layout).map_err(failed)?,
                    }
                }
            };
            Ok((*name, made))
        };
        let unpacked = self.all.iter().map(make).collect::<Result<_, Error>>()?;
        let whole = |(volume, image): (&&'a str, &Whole)| match image.unpack(self.layout, spool) {
            Ok(tree) => Ok((*volume, tree)),
            Err(source) => Err(Error::Image { name: image.name.clone(), source }),
        };
        Ok(Images { unpacked, whole: self.whole.iter().map(whole).collect::<Result<_, Error>>()? })
    }
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
    let all = definition.images().chain([definition.kernel.image.as_str()]);
    let names: BTreeSet<_> =
        all.filter(|name| !name.is_empty() && component::name_of(name).is_none()).collect();
    let needed = names.into_iter().map(|name| {
        // A lock that lacks a name is for the build to refuse.
        let digest = lock.image(name).ok().flatten();
        let is_here = image::stored(&layout, name, digest).map_err(StoreError::from)?.is_some();
        Ok(Needed { name: name.to_owned(), digest: digest.cloned(), is_here })
    });
    needed.collect()
}
