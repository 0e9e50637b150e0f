//! Where an entry of the root comes from: what asked for it, which image it is of, and what of that image it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::At;

/// One origin; a layer or a package has as many entries of the root as it has files, and they share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The entry of the definition that it is there for. None for what mvm puts into every root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// None for what comes from no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
    pub material: Material,
}

/// An entry of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    pub section: String,
    /// In the merged definition, from 0 on, as LinuxKit counts them.
    pub index: usize,
    /// None where entries have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub at: At,
}

/// Which image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageId {
    /// As the definition calls it.
    pub name: String,
    /// Its manifest's; none for a component of mvm's own, which is made by recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Material {
    /// A file of a Debian package.
    Package(Package),
    /// Put together from files of these.
    Packages(Vec<Package>),
    /// Said by a component's recipe, or a file beside it.
    Component(String),
    /// Made of an assembly source beside a component's recipe.
    Assembled(String),
    Layer(Layer),
    /// A part of the image as it is, in an OCI layout.
    Whole,
    /// What Docker puts into each container, and LinuxKit and mvm into each image of others.
    Docker,
    /// The link to the machine's resolver.
    Resolver,
    /// What the entry of `files` says that it is.
    File,
    /// A kernel, or what comes with it.
    Kernel,
    /// The guest binary, mvm's init.
    Guest,
    /// A container's description.
    Description,
    /// A place that something is mounted on.
    MountPoint,
    /// A directory that others lie in.
    Directory,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub suite: String,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layer {
    /// From 1 on.
    pub number: usize,
    /// How many the image has.
    pub count: usize,
    pub digest: String,
}

impl Origin {
    /// Of what mvm makes for everybody.
    pub(crate) fn own(material: Material) -> Self {
        Self { item: None, image: None, material }
    }

    /// Of something else for the same reason.
    pub(crate) fn beside(&self, material: Material) -> Self {
        Self { material, ..self.clone() }
    }

    /// The packages that it is made of.
    pub(crate) fn packages(&self) -> &[Package] {
        match &self.material {
            Material::Package(package) => std::slice::from_ref(package),
            Material::Packages(packages) => packages,
            _ => &[],
        }
    }
}

impl Item {
    /// As LinuxKit writes it: `services[1]`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}[{}]", self.section, self.index)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location())?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, " at {}", self.at)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} of {})", self.name, self.version, self.architecture, self.suite)
    }
}

impl fmt::Display for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => write!(f, "package {package}"),
            Self::Packages(packages) => {
                f.write_str("put together from files of")?;
                packages.iter().try_for_each(|package| write!(f, " {package}"))
            }
            Self::Component(file) => write!(f, "the component's {file}"),
            Self::Assembled(source) => write!(f, "assembled from the component's {source}"),
            Self::Layer(Layer { number, count, digest }) => {
                write!(f, "layer {number} of {count}, {digest}")
            }
            Self::Whole => f.write_str("the image itself, as an OCI layout"),
            Self::Docker => f.write_str("made by mvm: what Docker puts into each container"),
            Self::Resolver => f.write_str("made by mvm: the link to the machine's resolver"),
            Self::File => f.write_str("the definition"),
            Self::Kernel => f.write_str("the kernel"),
            Self::Guest => f.write_str("mvm's guest binary"),
            Self::Description => f.write_str("made by mvm: a container's description"),
            Self::MountPoint => f.write_str("made by mvm: a place that something is mounted on"),
            Self::Directory => f.write_str("made by mvm: a directory that others lie in"),
        }
    }
}
