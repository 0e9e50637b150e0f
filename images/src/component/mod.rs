//! Component images: a recipe and its packages become a tree.

mod assemble;
mod linking;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use globset::GlobSet;
use tar::EntryType;

use crate::architecture::{Architecture, UnknownArchitecture};
use crate::deb::{self, DebEntry, DebError, root_path};
use crate::packages::{Packages, PackagesError};
use crate::progress::Stage;
use crate::provenance::{ImageId, Material, Origin, Package};
use crate::recipe::{self, Component, RECIPE, RecipeError};
use crate::rootfs::{Entry, Node, Spool, Tree};
use crate::tools::ToolError;

pub(crate) use assemble::AssembleError;
use linking::Missing;

/// What references of the embedded components begin with.
const PREFIX: &str = "mvm/";

/// Why a component could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("cannot get the packages of the component {component}")]
    Packages { component: String, source: PackagesError },
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error("the component {component} keeps {pattern:?}, which matches nothing in its packages")]
    KeptNothing { component: String, pattern: String },
    #[error("the component {component} has {path}, a hard link to {target}, which it does not keep")]
    LostLink { component: String, path: String, target: String },
    #[error("the component {component} has {program}, which is linked with {library}; keep that too")]
    Unlinked { component: String, program: String, library: String },
    #[error("the component {component} gives {path} the mode {mode:?}, which is not octal")]
    Mode { component: String, path: String, mode: String },
    #[error("cannot assemble the programs of the component {component}")]
    Assemble { component: String, source: AssembleError },
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// The component's name in a reference to it; none for one of something else.
pub(crate) fn name_of(reference: &str) -> Option<&str> {
    reference.strip_prefix(PREFIX).map(|rest| rest.split(':').next().unwrap_or(rest))
}

/// Makes the tree of a component, which is called `id`; its packages have been fetched.
pub(crate) fn make(
    name: &str,
    id: &ImageId,
    packages: &Packages<'_>,
    spool: &Spool,
) -> Result<Tree, ComponentError> {
    let recipe = Component::load(name)?;
    let title = format!("{name}: unpack");
    let mut tree = Stage::run(packages.progress, &title, || unpack(name, &recipe, id, packages, spool))?;
    let of = |material| origin(id, material);
    let own = of(Material::Component(RECIPE.to_owned()));
    for (path, mode) in &recipe.directories {
        let bits = u32::from_str_radix(mode, 8).map_err(|_| ComponentError::Mode {
            component: name.to_owned(),
            path: path.clone(),
            mode: mode.clone(),
        })?;
        tree.put(path, Entry::directory(bits).of(&own));
    }
    for (path, target) in &recipe.symlinks {
        tree.put(path, Entry::symlink(target).of(&own));
    }
    for (path, bytes) in Component::extra_files(name) {
        let own = of(Material::Component(format!("files/{path}")));
        tree.put(&path, Entry::file(0o644, bytes).of(&own));
    }
    for (assembly, program) in assemble::all(name, &recipe, packages)? {
        let own = of(Material::Assembled(assembly.source.clone()));
        tree.put(&assembly.program, Entry::file(0o755, program).of(&own));
    }
    match linking::missing(&tree, Architecture::host()?) {
        Some(Missing { program, library }) => {
            Err(ComponentError::Unlinked { component: name.to_owned(), program, library })
        }
        None => Ok(tree),
    }
}

fn unpack(
    name: &str,
    recipe: &Component,
    id: &ImageId,
    packages: &Packages<'_>,
    spool: &Spool,
) -> Result<Tree, ComponentError> {
    let architecture = Architecture::host()?;
    let mut picker = Picker { keep: recipe.keeps(name)?, omit: recipe.omits(name)?, ..Picker::default() };
    for (path, pattern) in &recipe.concatenate {
        let part = Concatenation {
            path: path.clone(),
            pattern: recipe::pattern(name, pattern)?,
            parts: BTreeMap::new(),
            packages: BTreeSet::new(),
        };
        picker.parts.push(part);
    }
    for package in recipe.package_names(architecture.debian) {
        let failed = |source| ComponentError::Packages { component: name.to_owned(), source };
        let pin = packages.lock.pin(&package).map_err(PackagesError::from).map_err(failed)?;
        let file = packages.file(&package).map_err(failed)?;
        let package = Package {
            name: package.package,
            version: pin.version.clone(),
            architecture: package.architecture,
            suite: package.suite,
        };
        picker.origin = Some(origin(id, Material::Package(package)));
        deb::visit(&file, |path, entry| picker.visit(path, entry, spool))?;
    }
    picker.finish(name, recipe, id)
}

fn origin(id: &ImageId, material: Material) -> Arc<Origin> {
    Arc::new(Origin { item: None, image: Some(id.clone()), material })
}

/// Takes from packages what a recipe keeps.
#[derive(Default)]
struct Picker {
    keep: GlobSet,
    omit: GlobSet,
    tree: Tree,
    /// Of the package that is looked at.
    origin: Option<Arc<Origin>>,
    /// Hard links, whose targets may come later in the archive.
    links: Vec<(String, String, Entry)>,
    parts: Vec<Concatenation>,
    used: BTreeSet<usize>,
}

/// A file that is made of others.
struct Concatenation {
    path: String,
    pattern: GlobSet,
    parts: BTreeMap<String, Vec<u8>>,
    packages: BTreeSet<Package>,
}

impl Picker {
    fn visit(&mut self, path: &str, entry: &mut DebEntry<'_>, spool: &Spool) -> io::Result<()> {
        for part in &mut self.parts {
            if part.pattern.is_match(path) && entry.header().entry_type() == EntryType::Regular {
                part.parts.insert(path.to_owned(), contents(entry)?);
                part.packages.extend(self.origin.iter().flat_map(|origin| origin.packages()).cloned());
                return Ok(());
            }
        }
        let matches = self.keep.matches(path);
        if matches.is_empty() || self.omit.is_match(path) {
            return Ok(());
        }
        let mode = entry.header().mode()? & 0o7777;
        let of = |made| Entry { origin: self.origin.clone(), ..made };
        match entry.header().entry_type() {
            EntryType::Regular => self.tree.put(path, of(Entry::file(mode, spool.add(entry)?))),
            EntryType::Directory => self.tree.put(path, of(Entry::directory(mode))),
            EntryType::Symlink => self.tree.put(path, of(Entry::symlink(link_target(entry)?))),
            EntryType::Link => {
                let target = root_path(Path::new(&link_target(entry)?))
                    .ok_or_else(|| io::Error::other("the link leads out of the root"))?;
                self.links.push((path.to_owned(), target, of(Entry::directory(mode))));
            }
            _ => return Ok(()),
        }
        self.used.extend(matches);
        Ok(())
    }

    fn finish(mut self, name: &str, recipe: &Component, id: &ImageId) -> Result<Tree, ComponentError> {
        let unused = recipe.keep.iter().enumerate().find(|(index, _)| !self.used.contains(index));
        if let Some((_, pattern)) = unused {
            let pattern = pattern.clone();
            return Err(ComponentError::KeptNothing { component: name.to_owned(), pattern });
        }
        for (path, target, entry) in self.links {
            let Some(content) = self.tree.file(&target).cloned() else {
                return Err(ComponentError::LostLink { component: name.to_owned(), path, target });
            };
            self.tree.put(&path, Entry { node: Node::File(content), ..entry });
        }
        for part in self.parts {
            let whole: Vec<u8> = part.parts.into_values().flatten().collect();
            let own = origin(id, Material::Packages(part.packages.into_iter().collect()));
            self.tree.put(&part.path, Entry::file(0o644, whole).of(&own));
        }
        Ok(self.tree)
    }
}

fn contents(entry: &mut DebEntry<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn link_target(entry: &DebEntry<'_>) -> io::Result<String> {
    let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?;
    target.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a link that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_known_by_its_reference() {
        assert_eq!(name_of("mvm/moby"), Some("moby"));
        assert_eq!(name_of("mvm/moby:latest"), Some("moby"));
        assert_eq!(name_of("linuxkit/runc:abc"), None);
    }
}
