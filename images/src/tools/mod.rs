//! Programs that mvm brings itself: unpacked from locked packages into a directory of their own, never installed.
//!
//! A tool comes with all the libraries that it needs, and its own loader starts it with those, so it runs the same on
//! every host. No maintainer script ever runs.

pub(crate) mod isolated;
mod unpack;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use self::isolated::{IsolationError, check as check_isolation};
use crate::architecture::{Architecture, UnknownArchitecture};
use crate::deb::DebError;
use crate::exclusive::{Exclusive, ExclusiveError};
use crate::files::Key;
use crate::lock::{LockError, Name};
use crate::locking::{self, LockingError};
use crate::packages::{Packages, PackagesError};
use crate::progress::{Progress, Stage};
use crate::recipe::{self, RecipeError};
use crate::request::{Directories, Pins};
use crate::scratch::Scratch;
use crate::source::Source;

/// Counts up when the same recipe and packages make something else than before.
const LAYOUT: &str = "1";

/// Why a tool is not there.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("cannot tell what the tool is made of")]
    Lock(#[from] LockError),
    #[error(transparent)]
    Locking(Box<LockingError>),
    #[error("cannot get the packages of {tool}")]
    Packages { tool: String, source: PackagesError },
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl From<LockingError> for ToolError {
    fn from(error: LockingError) -> Self {
        Self::Locking(Box::new(error))
    }
}

/// A program that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The program and what has to stand before its own arguments; empty for a root that holds many programs.
    pub command: Vec<String>,
    /// The root of its files.
    pub root: PathBuf,
}

/// Makes sure that a tool (`qemu`, `passt`, ...) is unpacked, fetching its packages where they are not in the cache.
/// Not from within a build, which it would wait for.
pub fn ensure(
    name: &str,
    directories: &Directories,
    pins: Pins,
    progress: &dyn Progress,
) -> Result<Tool, ToolError> {
    // What is there is there during a build as well, which takes minutes.
    if let Ok(lock) = locking::effective(&Source::Embedded, directories)
        && let Ok(Some(tool)) = find(name, &Packages { directories, lock: &lock, progress })
    {
        return Ok(tool);
    }
    let _alone = Exclusive::wait(directories)?;
    locking::with_pins(pins, &Source::Embedded, directories, progress, |lock| {
        ensure_from(name, &Packages { directories, lock, progress })
    })
}

/// The same with a lock of the caller's, who has the directories for himself.
pub(crate) fn ensure_from(name: &str, packages: &Packages<'_>) -> Result<Tool, ToolError> {
    if let Some(tool) = find(name, packages)? {
        return Ok(tool);
    }
    let architecture = Architecture::host()?;
    let recipe = recipe::Tool::load(name)?;
    let names = package_names(name, &recipe, architecture, packages)?;
    let root = place(name, packages)?;
    let failed = |source| ToolError::Packages { tool: name.to_owned(), source };
    packages.fetch(&names).map_err(failed)?;
    let title = format!("{name}: unpack");
    Stage::run(packages.progress, &title, || unpack_all(name, &recipe, &names, packages, &root))?;
    Ok(Tool { command: command(&recipe, &root, architecture), root })
}

/// The tool, if it is unpacked.
fn find(name: &str, packages: &Packages<'_>) -> Result<Option<Tool>, ToolError> {
    let root = place(name, packages)?;
    if !root.exists() {
        return Ok(None);
    }
    let command = command(&recipe::Tool::load(name)?, &root, Architecture::host()?);
    Ok(Some(Tool { command, root }))
}

fn place(name: &str, packages: &Packages<'_>) -> Result<PathBuf, ToolError> {
    Ok(packages.directories.tools().join(directory(name, packages)?))
}

fn directory(name: &str, packages: &Packages<'_>) -> Result<String, ToolError> {
    Ok(format!("{name}-{}", key(name, packages)?))
}

/// The directories of all tools, whether they are unpacked or not.
pub(crate) fn all_names(packages: &Packages<'_>) -> Result<BTreeSet<String>, ToolError> {
    recipe::Tool::names().iter().map(|name| directory(name, packages)).collect()
}

/// What a tool's content depends on.
pub(crate) fn key(name: &str, packages: &Packages<'_>) -> Result<String, ToolError> {
    let architecture = Architecture::host()?;
    let recipe = recipe::Tool::load(name)?;
    let names = package_names(name, &recipe, architecture, packages)?;
    let mut key = Key::default().with(LAYOUT).with(recipe::Tool::text(name).unwrap_or_default());
    for package in &names {
        key = key.with(&packages.lock.pin(package)?.sha256);
    }
    Ok(key.short())
}

/// What a tool is made of.
pub(crate) fn packages_of(name: &str, packages: &Packages<'_>) -> Result<BTreeSet<Name>, ToolError> {
    Ok(package_names(name, &recipe::Tool::load(name)?, Architecture::host()?, packages)?)
}

fn package_names(
    name: &str,
    recipe: &recipe::Tool,
    architecture: Architecture,
    packages: &Packages<'_>,
) -> Result<BTreeSet<Name>, LockError> {
    let locked = packages.lock.tool(name, architecture.debian)?;
    let full = |package: &String| Name {
        suite: recipe.suite.clone(),
        architecture: architecture.debian.to_owned(),
        package: package.clone(),
    };
    Ok(locked.iter().map(full).collect())
}

/// Unpacks beside the place and renames, so that a tool is whole or not there.
fn unpack_all(
    name: &str,
    recipe: &recipe::Tool,
    names: &BTreeSet<Name>,
    packages: &Packages<'_>,
    root: &Path,
) -> Result<(), ToolError> {
    let tools = packages.directories.tools();
    fs::create_dir_all(&tools).map_err(|source| io_error("create", &tools, source))?;
    let making =
        Scratch::below(&tools).map_err(|source| io_error("create a directory in", &tools, source))?;
    let omit = recipe.omits(name)?;
    let unpacking = unpack::Unpacking::new(making.path(), &omit)?;
    for package in names {
        let failed = |source| ToolError::Packages { tool: name.to_owned(), source };
        unpacking.add(&packages.file(package).map_err(failed)?)?;
    }
    for (path, target) in &recipe.symlinks {
        unpacking.link(path, target)?;
    }
    // Programs of a tool may give up their privileges and still have to read it.
    fs::set_permissions(making.path(), fs::Permissions::from_mode(0o755))
        .map_err(|source| io_error("open up", making.path(), source))?;
    fs::rename(making.path(), root).map_err(|source| io_error("write", root, source))
}

fn command(recipe: &recipe::Tool, root: &Path, architecture: Architecture) -> Vec<String> {
    let Some(program) = &recipe.program else { return Vec::new() };
    let in_root = |path: &str| root.join(path).display().to_string();
    let filled = |text: &str| text.replace("{root}", &root.display().to_string());
    let mut command = Vec::new();
    if !recipe.environment.is_empty() {
        command.push("/usr/bin/env".to_owned());
        command.extend(recipe.environment.iter().map(|(name, value)| format!("{name}={}", filled(value))));
    }
    command.extend(loader(root, architecture));
    command.push(in_root(program));
    command.extend(recipe.arguments.iter().map(|argument| filled(argument)));
    command
}

/// What starts a program of a root with that root's own libraries.
pub(crate) fn loader(root: &Path, architecture: Architecture) -> [String; 3] {
    let libraries = root.join("usr/lib").join(architecture.triple);
    [
        root.join(architecture.loader).display().to_string(),
        "--library-path".to_owned(),
        libraries.display().to_string(),
    ]
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> ToolError {
    ToolError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_tool_is_fetched_by_one_at_a_time_and_one_that_is_there_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
        let lock = locking::effective(&Source::Embedded, &directories).unwrap();
        let passt =
            place("passt", &Packages { directories: &directories, lock: &lock, progress: &Silent }).unwrap();
        fs::create_dir_all(&passt).unwrap();
        let held = Exclusive::wait(&directories).unwrap();
        assert_eq!(ensure("passt", &directories, Pins::Exact, &Silent).unwrap().root, passt);

        thread::scope(|scope| {
            let (sender, answer) = mpsc::channel();
            let directories = &directories;
            scope.spawn(move || sender.send(ensure("nothing", directories, Pins::Exact, &Silent)));
            assert!(answer.recv_timeout(Duration::from_millis(200)).is_err(), "it did not wait");
            drop(held);
            let error = answer.recv().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("there is no tool nothing; "), "{error}");
        });
    }
}
