//! Whether an appliance is what its definition makes: it is made once more, and held against the one that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::{Build, Made, with_build};
use crate::error::Error;
use crate::files;
use crate::origin::Reuse;
use crate::progress::Stage;
use crate::request::Request;
use crate::store::{Appliance, Store, StoreError};

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("there is no appliance {0}; `mvm image ls` shows which there are")]
    Unknown(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot take {image} apart: {message}")]
    Unpack { image: PathBuf, message: String },
}

/// The first thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Kernel,
    Cmdline {
        here: String,
        made: String,
    },
    /// A file of the root, by its path, and what of it.
    File {
        path: String,
        what: &'static str,
    },
    /// The root has the same files: owners, times or the arrangement of the image differ.
    Root,
}

/// Makes the appliance that goes by the request's name from the request's definition; what differs first, if anything does.
/// Nothing is stored. Blocks, for minutes when nothing is cached.
pub fn rebuild(request: &Request<'_>) -> Result<Option<Difference>, Error> {
    with_build(request, |build| {
        let store = Store::open(&request.directories.images())?;
        let unknown = || RebuildError::Unknown(request.reference.to_owned());
        let here = store.find(request.reference)?.ok_or_else(unknown)?;
        let made = Made::of(build, build.inputs()?, Reuse::Nothing)?;
        Stage::run(request.progress, "compare", || difference(build, &here, &made))
    })
}

fn difference(build: &Build<'_>, here: &Appliance, made: &Made) -> Result<Option<Difference>, Error> {
    if !is_same(&here.kernel, &made.kernel)? {
        return Ok(Some(Difference::Kernel));
    }
    if !is_same(&here.root, &made.root)? {
        let unpacked = |image: &Path, name: &str| unpack(build, image, name);
        let (here, made) = (unpacked(&here.root, "here")?, unpacked(&made.root, "made")?);
        let file =
            first_file(&here, &made, "").map_err(|source| RebuildError::Read { path: here, source })?;
        return Ok(Some(file.unwrap_or(Difference::Root)));
    }
    // It has the hash of the root, which is the same then.
    if here.cmdline != made.cmdline {
        let (here, made) = (here.cmdline.clone(), made.cmdline.clone());
        return Ok(Some(Difference::Cmdline { here, made }));
    }
    Ok(None)
}

fn is_same(one: &Path, other: &Path) -> Result<bool, RebuildError> {
    let hash = |path: &Path| {
        files::sha256(path).map_err(|source| RebuildError::Read { path: path.to_owned(), source })
    };
    Ok(hash(one)? == hash(other)?)
}

/// The files of an image, as whoever this runs as.
fn unpack(build: &Build<'_>, image: &Path, name: &str) -> Result<PathBuf, Error> {
    let tool = build.tool("erofs")?;
    let to = build.scratch.path().join(name);
    let (program, before) = tool.command.split_first().map_or(("", &[][..]), |(p, b)| (p.as_str(), b));
    let output = Command::new(program)
        .args(before)
        .arg(format!("--extract={}", to.display()))
        .args(["--no-preserve-owner", "--preserve-perms"])
        .arg(image)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|source| RebuildError::Read { path: program.into(), source })?;
    if output.status.success() {
        return Ok(to);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RebuildError::Unpack { image: image.to_owned(), message }.into())
}

/// The first file of two directories, in the order of names, that is not the same in both.
fn first_file(here: &Path, made: &Path, below: &str) -> io::Result<Option<Difference>> {
    let mut names = Vec::new();
    for directory in [here, made] {
        for entry in fs::read_dir(directory.join(below))? {
            names.push(entry?.file_name());
        }
    }
    names.sort();
    names.dedup();
    for name in names {
        let name = name.to_string_lossy();
        let path = if below.is_empty() { name.into_owned() } else { format!("{below}/{name}") };
        if let Some(what) = difference_of(&here.join(&path), &made.join(&path))? {
            return Ok(Some(Difference::File { path: format!("/{path}"), what }));
        }
        if here.join(&path).symlink_metadata()?.is_dir()
            && let Some(found) = first_file(here, made, &path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What of one file is another.
fn difference_of(here: &Path, made: &Path) -> io::Result<Option<&'static str>> {
    use std::os::unix::fs::PermissionsExt;
    let (here_is, made_is) = match (here.symlink_metadata(), made.symlink_metadata()) {
        (Ok(here), Ok(made)) => (here, made),
        (Ok(_), Err(_)) => return Ok(Some("is not in what was made")),
        (Err(_), _) => return Ok(Some("is only in what was made")),
    };
    if here_is.file_type() != made_is.file_type() {
        return Ok(Some("is something of another kind"));
    }
    if here_is.permissions().mode() != made_is.permissions().mode() {
        return Ok(Some("has another mode"));
    }
    if here_is.is_symlink() && fs::read_link(here)? != fs::read_link(made)? {
        return Ok(Some("leads elsewhere"));
    }
    let differs =
        here_is.is_file() && (here_is.len() != made_is.len() || files::sha256(here)? != files::sha256(made)?);
    Ok(differs.then_some("has other contents"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_first_file_that_differs_is_named() {
        let (here, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [here.path(), made.path()] {
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b/x"), "same").unwrap();
            fs::write(root.join("a/c"), "same").unwrap();
            symlink("x", root.join("link")).unwrap();
        }
        let first = || first_file(here.path(), made.path(), "").unwrap();
        let is = |path: &str, what| Some(Difference::File { path: path.to_owned(), what });
        assert_eq!(first(), None);
        fs::write(made.path().join("z"), "").unwrap();
        assert_eq!(first(), is("/z", "is only in what was made"));
        fs::remove_file(made.path().join("link")).unwrap();
        symlink("y", made.path().join("link")).unwrap();
        assert_eq!(first(), is("/link", "leads elsewhere"));
        fs::set_permissions(here.path().join("a/c"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(first(), is("/a/c", "has another mode"));
        fs::write(made.path().join("a/b/x"), "othr").unwrap();
        assert_eq!(first(), is("/a/b/x", "has other contents"));
        fs::remove_file(made.path().join("a/b/x")).unwrap();
        assert_eq!(first(), is("/a/b/x", "is not in what was made"));
        fs::create_dir(made.path().join("a/b/x")).unwrap();
        assert_eq!(first(), is("/a/b/x", "is something of another kind"));
    }
}
