//! `linuxkit.yml`: what a user writes, as types, and what must hold for it.
//!
//! The format is LinuxKit's; a field that it has and this version does not serve is refused by name, with its line, as
//! is a field that does not exist.

mod file;
mod image;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use file::FileSpec;
pub use image::{DeviceSpec, Id, Image, ImageConfig, MountSpec, Runtime};

/// Why a definition cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("{file} is not a valid appliance definition")]
    Syntax { file: String, source: serde_yaml::Error },
    #[error("{file}: {problem}")]
    Invalid { file: String, problem: String },
}

/// A whole definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub kernel: KernelSpec,
    /// Images that are unpacked onto the root itself.
    #[serde(default)]
    pub init: Vec<String>,
    /// Run once, in order.
    #[serde(default)]
    pub onboot: Vec<Image>,
    /// Run until shutdown.
    #[serde(default)]
    pub services: Vec<Image>,
    #[serde(default)]
    pub files: Vec<FileSpec>,
}

/// The kernel, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    pub image: String,
    #[serde(default)]
    pub cmdline: String,
}

impl Definition {
    /// Reads and checks a definition; `file` is what messages call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecError> {
        let definition: Self = serde_yaml::from_str(text)
            .map_err(|source| SpecError::Syntax { file: file.to_owned(), source })?;
        match definition.problem() {
            Some(problem) => Err(SpecError::Invalid { file: file.to_owned(), problem }),
            None => Ok(definition),
        }
    }

    /// Every image that it refers to, without the kernel's.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let containers = self.onboot.iter().chain(&self.services).map(|image| image.image.as_str());
        self.init.iter().map(String::as_str).chain(containers)
    }

    fn problem(&self) -> Option<String> {
        let sections = [("onboot", &self.onboot), ("services", &self.services)];
        let mut services = BTreeSet::new();
        let bad_name = sections.into_iter().find_map(|(section, images)| {
            images.iter().enumerate().find_map(|(index, image)| {
                let problem = format!(
                    "{section}.{index}: name {:?} may hold letters, digits, '.', '_' and '-' only, \
                     and be neither '.' nor '..'",
                    image.name
                );
                (!is_name(&image.name)).then_some(problem)
            })
        });
        let duplicate = || {
            let found = self.services.iter().find(|image| !services.insert(image.name.as_str()));
            found.map(|image| format!("duplicate service name: {}", image.name))
        };
        let bad_file = || {
            self.files.iter().enumerate().find_map(|(index, file)| {
                file.problem().map(|problem| format!("files.{index} ({}): {problem}", file.path))
            })
        };
        bad_name.or_else(duplicate).or_else(bad_file)
    }
}

/// Names become names of directories and of control groups.
fn is_name(name: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !matches!(name, "" | "." | "..") && name.bytes().all(is_name_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let error = Definition::parse("a.yml", text).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    #[test]
    fn the_embedded_definition_is_valid() {
        let definition = Definition::parse("linuxkit.yml", crate::embedded::DEFINITION).unwrap();
        let names: Vec<_> = definition.onboot.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["sysctl", "binfmt", "format", "mount", "network"]);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let text = "kernel:\n  image: mvm/kernel\nservices:\n  - name: a\n    image: mvm/moby\n    capabilites: [all]\n";
        let message = message(text);
        assert!(message.contains("unknown field `capabilites`"), "{message}");
        assert!(message.contains("line "), "{message}");
    }

    #[test]
    fn what_init_does_not_do_is_refused_before_the_build() {
        for field in ["interfaces: [{name: wg0}]", "bindNS: {net: /run/netns/x}"] {
            let text = format!(
                "kernel:\n  image: k\nservices:\n  - name: a\n    image: x\n    runtime:\n      {field}\n"
            );
            let message = message(&text);
            let name = field.split(':').next().unwrap();
            let expected = format!("services[0].runtime: unknown field `{name}`, expected one of ");
            assert!(message.contains(&expected) && message.contains(" at line 7 "), "{message}");
        }
    }

    #[test]
    fn names_are_checked() {
        let kernel = "kernel: {image: mvm/kernel}\n";
        let twice = format!("{kernel}services: [{{name: a, image: x}}, {{name: a, image: y}}]\n");
        assert_eq!(message(&twice), "a.yml: duplicate service name: a");
        let slash = format!("{kernel}onboot: [{{name: a/../b, image: x}}]\n");
        assert!(message(&slash).starts_with("a.yml: onboot.0: name \"a/../b\" may hold letters"));
        for name in [".", ".."] {
            let dots = format!("{kernel}services: [{{name: {name}, image: x}}]\n");
            let expected = format!("a.yml: services.0: name {name:?} may hold letters");
            assert!(message(&dots).starts_with(&expected), "{}", message(&dots));
        }
    }

    #[test]
    fn a_file_is_one_thing() {
        let text = "kernel: {image: k}\nfiles: [{path: etc/x, contents: a, symlink: b}]\n";
        let expected = "a.yml: files.0 (etc/x): give one of contents, source, symlink or directory";
        assert_eq!(message(text), expected);
        let text = "kernel: {image: k}\nfiles: [{path: etc/x, contents: a, mode: '9'}]\n";
        assert_eq!(message(text), "a.yml: files.0 (etc/x): mode \"9\" is not octal");
        let text = "kernel: {image: k}\nfiles: [{path: ../x, contents: a}]\n";
        assert_eq!(message(text), "a.yml: files.0 (../x): the path leads out of the root");
    }
}
