//! `linuxkit.yml`: what a user writes, as types, and what must hold for it.
//!
//! The types are the source of all that is said about the format: [`schema`] is made of them, with the comments at their
//! fields; what a user writes is held against that schema, and so [everything that is wrong](Problems) is shown at once and
//! where it stands; `docs/linuxkit-reference.md` is that schema for readers. What the types cannot say is in `checks`, and
//! in `formats` for a single text.

mod checks;
mod file;
mod formats;
mod id;
mod image;
mod merge;
mod names;
mod packages;
mod places;
mod reference;
mod resources;
mod runtime;
mod schema;
mod validate;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use file::{FileSpec, Metadata};
pub use id::Id;
pub use image::{DeviceSpec, IdMapping, Image, ImageConfig, MountSpec};
pub(crate) use merge::OwnConfig;
pub use names::NameError;
pub(crate) use names::{Names, VOLUMES};
pub use places::At;
pub(crate) use places::{Places, Written};
pub use reference::reference;
pub use resources::Resources;
pub use runtime::{BindNs, Interface, Runtime};
pub use schema::schema;

use crate::component;
use crate::yaml::{self, Problems};

/// A whole definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The kernel, and what it is told.
    #[serde(default, skip_serializing_if = "KernelSpec::is_empty")]
    pub kernel: KernelSpec,
    /// Images that are unpacked onto the root itself, one over the other.
    #[schemars(extend("format" = "image"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init: Vec<String>,
    /// File systems of their own, which containers see by their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// Containers that run once at the start, in this order, each to its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onboot: Vec<Image>,
    /// Containers that run once at the end, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onshutdown: Vec<Image>,
    /// Containers that run until the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Image>,
    /// What else is in the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Of old definitions; without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// The kernel, and what it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    /// The image that it comes in.
    #[schemars(extend("format" = "image"))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// The kernel's file in the image. `kernel` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// The archive in the image that is unpacked onto the root: its modules. `kernel.tar` unless given; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar: Option<String>,
    /// An archive in the image with microcode, which comes before the initial ramdisk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ucode: Option<String>,
}

impl KernelSpec {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A file system of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// What binds call it.
    #[schemars(extend("format" = "volume"))]
    pub name: String,
    /// What is in it; nothing unless given.
    #[schemars(extend("format" = "image"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it can only be read.
    #[serde(default)]
    pub readonly: bool,
    /// Whether it holds the image's files, or the image itself as an OCI layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<VolumeFormat>,
    /// Of which platforms, where it holds the image itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// What a volume holds of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFormat {
    Filesystem,
    Oci,
}

/// Whose signatures were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    pub image: Vec<String>,
    pub org: Vec<String>,
}

/// A file of a definition.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// What messages call it.
    pub file: &'a str,
    pub text: &'a str,
    /// What its relative paths are relative to.
    pub directory: &'a Path,
    /// Whether it lies on this machine, and may name packages beside it.
    pub is_local: bool,
}

impl Definition {
    /// Reads a definition of one file.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::read(&[Document { file, text, directory: Path::new(""), is_local: false }])
    }

    /// Reads a definition of several files, each of which adds to those before it.
    pub fn read(documents: &[Document<'_>]) -> Result<Self, Problems> {
        Ok(Self::locate(documents)?.0)
    }

    /// The same, and where its entries stand.
    pub(crate) fn locate(documents: &[Document<'_>]) -> Result<(Self, Places), Problems> {
        let mut problems = Problems::default();
        let mut parts = Vec::new();
        let mut merged = Self::default();
        for document in documents {
            let mut node = yaml::compose(document.file, document.text)?;
            problems.append(packages::resolve(document, &mut node));
            let (part, found) = validate::against(schema(), document, &node, "a definition");
            parts.push((document, node));
            problems.append(found);
            if let Some(part) = part {
                merged.append(part, document.directory);
            }
        }
        problems.append(checks::all(&parts));
        problems.or((merged, Places::of(&parts)))
    }

    /// Every image that it refers to, without the kernel's.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.unpacked_images().chain(self.whole_images().map(|(_, image)| image))
    }

    /// Every image of others that it names, the kernel's too; some more than once.
    pub(crate) fn foreign_images(&self) -> impl Iterator<Item = &str> {
        let all = self.images().chain([self.kernel.image.as_str()]);
        all.filter(|name| !name.is_empty() && component::name_of(name).is_none())
    }

    /// Every image whose files it wants.
    pub(crate) fn unpacked_images(&self) -> impl Iterator<Item = &str> {
        let containers = self.containers().map(|image| image.image.as_str());
        let volumes = self.volumes.iter().filter(|volume| volume.format != Some(VolumeFormat::Oci));
        let volumes = volumes.filter_map(|volume| volume.image.as_deref());
        self.init.iter().map(String::as_str).chain(containers).chain(volumes)
    }

    /// Every volume that holds an image itself, and that image.
    pub(crate) fn whole_images(&self) -> impl Iterator<Item = (&VolumeSpec, &str)> {
        let volumes = self.volumes.iter().filter(|volume| volume.format == Some(VolumeFormat::Oci));
        volumes.filter_map(|volume| Some((volume, volume.image.as_deref()?)))
    }

    /// All containers, in LinuxKit's order.
    pub fn containers(&self) -> impl Iterator<Item = &Image> {
        self.onboot.iter().chain(&self.onshutdown).chain(&self.services)
    }

    /// It as `linuxkit.yml` has it.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Definition {
        Definition::parse("a.yml", text).unwrap()
    }

    #[test]
    fn the_embedded_definition_is_valid_and_survives_its_text() {
        let definition = parsed(crate::embedded::DEFINITION);
        let names: Vec<_> = definition.onboot.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["sysctl", "binfmt", "format", "mount", "network"]);
        assert_eq!(parsed(&definition.to_yaml().unwrap()), definition);
    }

    /// What is written by one library is read by another.
    #[test]
    fn texts_that_look_like_something_else_survive() {
        for text in [
            "0b11",
            "0o17",
            "0x1f",
            "017",
            "+3",
            "-1",
            "1e3",
            ".5",
            "~",
            "null",
            "True",
            "yes",
            "- a",
            "# x",
            "a: b",
            "",
            "  x",
            "x ",
            "x\n y\n",
            "\t",
            "1_000",
            "=",
            "<<",
            "!x",
            "&a",
            "*a",
            "é",
            "\u{7f}",
            "\u{85}x",
            "'",
            "\"",
            "x: |",
            "? y",
            "%z",
            "@a",
            "`b`",
            "[",
            "}",
            "a\n\n\nb",
            "\r\n",
            "---",
            "...",
            "\u{feff}x",
            "\\",
        ] {
            let kernel = KernelSpec { cmdline: text.to_owned(), ..KernelSpec::default() };
            let files =
                vec![FileSpec { path: "x".into(), contents: Some(text.into()), ..FileSpec::default() }];
            let definition = Definition { kernel, files, ..Definition::default() };
            let yaml = definition.to_yaml().unwrap();
            let again = Definition::parse("a.yml", &yaml);
            assert_eq!(again.unwrap_or_else(|error| panic!("{text:?}: {error}")), definition, "{yaml}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "services:\n  - name: a\n    image: x\n    capabilites: [all]\n    net: 5\n    uid: b\n";
        let message = Definition::parse("a.yml", text).unwrap_err().to_string();
        assert_eq!(
            message,
            "the definition is not valid:\n\
             unknown field `capabilites` at a.yml:4:5; did you mean `capabilities`?\n \
             4 |     capabilites: [all]\n   |     ^^^^^^^^^^^\n\
             `net` is a number, and has to be a text at a.yml:5:10; write \"5\" in quotes\n \
             5 |     net: 5\n   |          ^\n\
             cannot find id: b at a.yml:6:10; it is a number, or the name of a container\n \
             6 |     uid: b\n   |          ^"
        );
    }

    #[test]
    fn several_files_are_one_definition() {
        let documents = [
            Document {
                file: "a.yml",
                text: "kernel: {image: k, cmdline: quiet}\ninit: [a]\nfiles: [{path: x, source: x}]\n",
                directory: Path::new("one"),
                is_local: false,
            },
            Document {
                file: "two/b.yml",
                text: "kernel: {cmdline: loud}\ninit: [b]\nfiles: [{path: y, source: ~/y}]\n",
                directory: Path::new("two"),
                is_local: false,
            },
        ];
        let merged = Definition::read(&documents).unwrap();
        assert_eq!((merged.kernel.image.as_str(), merged.kernel.cmdline.as_str()), ("k", "loud"));
        assert_eq!(merged.init, ["a", "b"]);
        let sources: Vec<_> = merged.files.iter().map(|file| file.source.clone().unwrap()).collect();
        assert_eq!(sources, [Path::new("one/x"), Path::new("~/y")]);
    }

    #[test]
    fn what_schema_and_types_say_is_the_same() {
        // Every field of a container that the format has, and their number: LinuxKit's 36.
        let fields = schema().pointer("/$defs/Image/properties").unwrap().as_object().unwrap();
        assert_eq!(fields.len(), 36, "{:?}", fields.keys().collect::<Vec<_>>());
        let own = schema().pointer("/$defs/ImageConfig");
        assert_eq!(own, None, "an image's label is no part of a definition");
        let text = schema().to_string();
        assert!(!text.contains("\"null\""), "a field may be left out, and not be null");
    }

    #[test]
    fn the_reference_is_what_the_types_say() {
        let page = include_str!("../../../docs/linuxkit-reference.md");
        assert!(page == reference(), "run `mvm image schema --markdown > docs/linuxkit-reference.md`");
    }
}
