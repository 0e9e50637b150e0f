//! The kernel: Debian's source with our configuration, compiled in a root of its own.
//!
//! It takes minutes and depends on four things only, so its result is kept under their key: the source package, the
//! fragment, the patches, and the toolchain.

mod compile;
mod options;
mod origin;
mod patches;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::architecture::{Architecture, UnknownArchitecture};
use crate::files::Key;
use crate::lock::Name;
use crate::packages::{Packages, PackagesError};
use crate::recipe::{Component, Kernel as Recipe, RecipeError, VMLINUX};
use crate::scratch::Scratch;
use crate::tools::isolated::{self, IsolationError};
use crate::tools::{self, ToolError};

pub(crate) use origin::{ForeignError, Kind, Made, Origin};
pub(crate) use patches::PatchError;
pub(crate) use source::SourceError;

/// The tool root that it is built in.
const TOOLCHAIN: &str = "toolchain";
/// Counts up when the same sources are built differently.
const METHOD: &str = "1";

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the component {0} is not a kernel: its recipe has no section `kernel`")]
    NotAKernel(String),
    #[error("the component {component} has no configuration for {architecture}")]
    NoFragment { component: String, architecture: &'static str },
    #[error("the component {0} must name exactly one package, the kernel's source")]
    OneSource(String),
    #[error("cannot compile a kernel here")]
    Isolation(#[from] IsolationError),
    #[error("cannot get the kernel's source")]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the kernel's configuration does not take: {}; see {log}", options.join(", "), log = log.display())]
    Options { options: Vec<String>, log: PathBuf },
    #[error("make {target} failed; the whole log is {log}\n{last_lines}", log = log.display())]
    Make { target: String, log: PathBuf, last_lines: String },
}

/// A kernel's recipe, read and checked.
pub(crate) struct Kernel {
    /// By their files' names; of an option that is given twice the last counts.
    fragments: Vec<(String, &'static str)>,
    patches: patches::Patches,
    archive: String,
    /// The file of the source's tree that is made.
    image: String,
    source: Name,
    architecture: Architecture,
}

/// What a kernel is made of; texts by their files' names.
pub(crate) struct Materials<'a> {
    pub(crate) source: &'a Name,
    pub(crate) fragments: &'a [(String, &'static str)],
    pub(crate) patches: &'a [(String, &'static str)],
}

impl Kernel {
    pub(crate) fn load(component: &str) -> Result<Self, KernelError> {
        let architecture = Architecture::host()?;
        let recipe = Component::load(component)?;
        let mut packages = recipe.package_names(architecture.debian);
        let (Some(source), true) = (packages.pop_first(), packages.is_empty()) else {
            return Err(KernelError::OneSource(component.to_owned()));
        };
        let kernel = recipe.kernel.ok_or_else(|| KernelError::NotAKernel(component.to_owned()))?;
        let mut fragments = vec![fragment(component, &kernel, architecture)?];
        let mut patched = vec![component];
        if let Some(base) = &kernel.base {
            let recipe = Component::load(base)?.kernel;
            let recipe = recipe.ok_or_else(|| KernelError::NotAKernel(base.clone()))?;
            fragments.insert(0, fragment(base, &recipe, architecture)?);
            patched.insert(0, base);
        }
        let patches = patches::Patches::of(&patched);
        let Recipe { archive, image, .. } = kernel;
        Ok(Self { fragments, patches, archive, image, source, architecture })
    }

    /// All of its configuration.
    fn fragment(&self) -> String {
        self.fragments.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
    }

    /// The hash of that and of its patches.
    pub(crate) fn configuration(&self) -> String {
        self.patches.add_to(Key::default().with(self.fragment())).finish()
    }

    /// Whether its configuration has an option.
    fn has(&self, option: &str) -> bool {
        options::has(&self.fragment(), option)
    }

    /// What a bill of materials says that it is made of.
    pub(crate) fn materials(&self) -> Materials<'_> {
        Materials { source: &self.source, fragments: &self.fragments, patches: self.patches.texts() }
    }

    /// The tool that compiles it.
    pub(crate) fn tool(&self) -> &'static str {
        TOOLCHAIN
    }

    /// The key of everything that it is made of.
    pub(crate) fn key(&self, packages: &Packages<'_>) -> Result<String, KernelError> {
        let source = packages.lock.pin(&self.source).map_err(PackagesError::from)?;
        let toolchain = tools::key(TOOLCHAIN, packages)?;
        let key = Key::default().with(METHOD).with(&source.sha256).with(self.fragment()).with(toolchain);
        let key = if self.image == VMLINUX { key } else { key.with(&self.image) };
        Ok(self.patches.add_to(key).short())
    }

    /// Its image, from the cache or compiled now.
    pub(crate) fn make(&self, packages: &Packages<'_>) -> Result<PathBuf, KernelError> {
        let dir = packages.directories.kernels().join(self.key(packages)?);
        let made = dir.join(self.image.rsplit('/').next().unwrap_or(VMLINUX));
        if made.exists() {
            return Ok(made);
        }
        isolated::check()?;
        packages.fetch(&[self.source.clone()].into())?;
        let toolchain = tools::ensure_from(TOOLCHAIN, packages)?;
        fs::create_dir_all(&dir).map_err(|source| io_error("create", &dir, source))?;
        // Beside the result: a file system in memory may not hold a kernel's build.
        let kernels = packages.directories.kernels();
        let work =
            Scratch::below(&kernels).map_err(|source| io_error("create a directory in", &kernels, source))?;
        source::unpack(self, packages, &toolchain, work.path())?;
        let version = &packages.lock.pin(&self.source).map_err(PackagesError::from)?.version;
        let source = format!("{} {version}", self.source.package);
        self.patches.apply(&work.path().join("linux"), &source)?;
        let build = compile::Build {
            toolchain: &toolchain,
            work: work.path(),
            log: &dir.join("build.log"),
            fragment: &self.fragment(),
            image: &self.image,
            progress: packages.progress,
        };
        let built = build.run()?;
        fs::rename(&built, &made).map_err(|source| io_error("write", &made, source))?;
        Ok(made)
    }
}

/// All kernels that mvm has recipes of for this machine, by their components' names.
fn all() -> Result<BTreeMap<String, Kernel>, KernelError> {
    let mut all = BTreeMap::new();
    for name in Component::names() {
        match Kernel::load(&name) {
            Ok(kernel) => _ = all.insert(name, kernel),
            Err(KernelError::NotAKernel(_) | KernelError::OneSource(_) | KernelError::NoFragment { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The keys of all of them.
pub(crate) fn all_keys(packages: &Packages<'_>) -> Result<BTreeSet<String>, KernelError> {
    all()?.values().map(|kernel| kernel.key(packages)).collect()
}

/// The hashes of what all of them are configured and patched with, by their components' names.
pub(crate) fn configurations() -> Result<BTreeMap<String, String>, KernelError> {
    Ok(all()?.into_iter().map(|(name, kernel)| (name, kernel.configuration())).collect())
}

/// The options that a kernel's recipe asks for, by their file's name.
fn fragment(
    component: &str,
    recipe: &Recipe,
    architecture: Architecture,
) -> Result<(String, &'static str), KernelError> {
    let file = recipe.fragments.get(architecture.debian);
    let found = file.and_then(|file| Some((file.clone(), Component::file(component, file)?)));
    let text = found.and_then(|(file, bytes)| Some((file, std::str::from_utf8(bytes).ok()?)));
    text.ok_or_else(|| KernelError::NoFragment {
        component: component.to_owned(),
        architecture: architecture.debian,
    })
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> KernelError {
    KernelError::Io { action, path: path.to_owned(), source }
}
