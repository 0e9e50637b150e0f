//! Recipes: how a component image or a tool is made from Debian packages. All are embedded in the program.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use include_dir::{Dir, include_dir};
use serde::Deserialize;

use crate::lock::Name;
use crate::spec::ImageConfig;

static COMPONENTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/components");
static TOOLS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/tools");

/// A component's recipe, in its directory.
pub(crate) const RECIPE: &str = "component.yml";
/// The kernel as it is linked, uncompressed.
pub(crate) const VMLINUX: &str = "vmlinux";

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("there is no component {name}; there are {known}")]
    NoComponent { name: String, known: String },
    #[error("there is no tool {name}; there are {known}")]
    NoTool { name: String, known: String },
    #[error("cannot read the recipe {path}")]
    Syntax { path: String, source: serde_yaml::Error },
    #[error("the recipe {path} has a bad pattern")]
    Pattern { path: String, source: globset::Error },
}

/// `components/NAME/component.yml`. Paths are below the component's root, without a leading slash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    /// By suite. Exactly these, whatever they depend on.
    #[serde(default)]
    pub(crate) packages: BTreeMap<String, Vec<String>>,
    /// Patterns of the packages' files to keep; nothing else is. `*` stops at a slash, `**` does not.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
    /// Patterns of files to leave out of those.
    #[serde(default)]
    pub(crate) omit: Vec<String>,
    /// Directories to make, with octal modes.
    #[serde(default)]
    pub(crate) directories: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) symlinks: BTreeMap<String, String>,
    /// Files made of all that match a pattern, in the order of their names.
    #[serde(default)]
    pub(crate) concatenate: BTreeMap<String, String>,
    /// Programs made from one assembly source each.
    #[serde(default)]
    pub(crate) assemble: Vec<Assembly>,
    /// What LinuxKit reads from the label `org.mobyproject.config`: defaults for the yml's image object.
    #[serde(default)]
    pub(crate) config: ImageConfig,
    /// Only of a component that is a kernel.
    pub(crate) kernel: Option<Kernel>,
}

/// An assembly source of the component, and the program that it becomes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assembly {
    pub(crate) source: String,
    pub(crate) program: String,
    /// The GNU name of the target: its `as` and `ld` are `TARGET-as` and `TARGET-ld`.
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) as_options: Vec<String>,
    #[serde(default)]
    pub(crate) ld_options: Vec<String>,
}

/// How the kernel is configured. The source is the one package of the component.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    /// The kernel whose options and patches come before its own.
    pub(crate) base: Option<String>,
    /// The source archive within the package.
    pub(crate) archive: String,
    /// What is made: the file of the source's tree that a machine boots.
    #[serde(default = "vmlinux")]
    pub(crate) image: String,
    /// The file with the wanted options, by Debian's name of the architecture.
    pub(crate) fragments: BTreeMap<String, String>,
}

fn vmlinux() -> String {
    VMLINUX.to_owned()
}

/// `tools/NAME.yml`: programs for this machine, with everything that they depend on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    pub(crate) suite: String,
    pub(crate) packages: Vec<String>,
    /// Patterns of files to leave out.
    #[serde(default)]
    pub(crate) omit: Vec<String>,
    /// What maintainer scripts would have linked: they never run.
    #[serde(default)]
    pub(crate) symlinks: BTreeMap<String, String>,
    /// The program, below the root; none for a tool that is a whole root to work in.
    pub(crate) program: Option<String>,
    /// Arguments that always come first; `{root}` stands for the tool's root.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
}

impl Component {
    pub(crate) fn load(name: &str) -> Result<Self, RecipeError> {
        let path = format!("{name}/{RECIPE}");
        let Some(text) = COMPONENTS.get_file(&path).and_then(|file| file.contents_utf8()) else {
            return Err(RecipeError::NoComponent { name: name.to_owned(), known: Self::names().join(", ") });
        };
        serde_yaml::from_str(text).map_err(|source| RecipeError::Syntax { path, source })
    }

    pub(crate) fn names() -> Vec<String> {
        COMPONENTS.dirs().map(|dir| dir.path().display().to_string()).collect()
    }

    /// Its packages by their full names.
    pub(crate) fn package_names(&self, architecture: &str) -> BTreeSet<Name> {
        let names = self.packages.iter().flat_map(|(suite, packages)| {
            packages.iter().map(|package| Name {
                suite: suite.clone(),
                architecture: architecture.to_owned(),
                package: package.clone(),
            })
        });
        names.collect()
    }

    /// A file beside the recipe.
    pub(crate) fn file(name: &str, path: &str) -> Option<&'static [u8]> {
        COMPONENTS.get_file(format!("{name}/{path}")).map(include_dir::File::contents)
    }

    /// Everything in the component's directory `files/`, by its path in the root.
    pub(crate) fn extra_files(name: &str) -> Vec<(String, &'static [u8])> {
        let base = format!("{name}/files");
        let mut found = Vec::new();
        let mut open: Vec<_> = COMPONENTS.get_dir(&base).into_iter().collect();
        while let Some(dir) = open.pop() {
            open.extend(dir.dirs());
            for file in dir.files() {
                if let Ok(path) = file.path().strip_prefix(&base) {
                    found.push((path.display().to_string(), file.contents()));
                }
            }
        }
        found.sort();
        found
    }

    /// The texts in the component's directory `patches/`, by their files' names.
    pub(crate) fn patches(name: &str) -> Vec<(String, &'static str)> {
        let files = COMPONENTS.get_dir(format!("{name}/patches")).into_iter().flat_map(Dir::files);
        let named = |file: &'static include_dir::File<'static>| {
            Some((file.path().file_name()?.to_str()?.to_owned(), file.contents_utf8()?))
        };
        let mut found: Vec<_> = files.filter_map(named).collect();
        found.sort();
        found
    }

    /// All that stands in the component's directory, for the key of a build.
    pub(crate) fn sources(name: &str) -> Vec<(String, &'static [u8])> {
        let mut found = Vec::new();
        let mut open: Vec<_> = COMPONENTS.get_dir(name).into_iter().collect();
        while let Some(dir) = open.pop() {
            open.extend(dir.dirs());
            found.extend(dir.files().map(|file| (file.path().display().to_string(), file.contents())));
        }
        found.sort();
        found
    }

    pub(crate) fn keeps(&self, name: &str) -> Result<GlobSet, RecipeError> {
        patterns(&format!("{name}/{RECIPE}"), &self.keep)
    }

    pub(crate) fn omits(&self, name: &str) -> Result<GlobSet, RecipeError> {
        patterns(&format!("{name}/{RECIPE}"), &self.omit)
    }
}

impl Tool {
    pub(crate) fn load(name: &str) -> Result<Self, RecipeError> {
        let path = format!("{name}.yml");
        let text = Self::text(name)
            .ok_or_else(|| RecipeError::NoTool { name: name.to_owned(), known: Self::names().join(", ") })?;
        serde_yaml::from_str(text).map_err(|source| RecipeError::Syntax { path, source })
    }

    pub(crate) fn text(name: &str) -> Option<&'static str> {
        TOOLS.get_file(format!("{name}.yml")).and_then(|file| file.contents_utf8())
    }

    pub(crate) fn names() -> Vec<String> {
        TOOLS.files().filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned())).collect()
    }

    pub(crate) fn omits(&self, name: &str) -> Result<GlobSet, RecipeError> {
        patterns(&format!("{name}.yml"), &self.omit)
    }
}

/// One pattern.
pub(crate) fn pattern(name: &str, text: &str) -> Result<GlobSet, RecipeError> {
    patterns(&format!("{name}/{RECIPE}"), &[text.to_owned()])
}

fn patterns(path: &str, patterns: &[String]) -> Result<GlobSet, RecipeError> {
    let failed = |source| RecipeError::Pattern { path: path.to_owned(), source };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(failed)?);
    }
    set.build().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_recipe_can_be_read() {
        for name in Component::names() {
            let component = Component::load(&name).unwrap();
            component.keeps(&name).unwrap();
            component.omits(&name).unwrap();
            for assembly in &component.assemble {
                assert!(Component::file(&name, &assembly.source).is_some(), "{name}: {}", assembly.source);
            }
        }
        for name in Tool::names() {
            Tool::load(&name).unwrap().omits(&name).unwrap();
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Component::load("mobby").unwrap_err().to_string();
        assert!(error.starts_with("there is no component mobby; there are "), "{error}");
        assert!(error.contains("moby"), "{error}");
        let error = Tool::load("quemu").unwrap_err().to_string();
        assert!(error.contains("there is no tool quemu; there are ") && error.contains("qemu"), "{error}");
    }
}
