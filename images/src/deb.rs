//! The files of a Debian package.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tar::{Archive, Entry};

use crate::rootfs::links;

/// Why a package could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    #[error("cannot run dpkg-deb; install the package dpkg")]
    Start(#[source] io::Error),
    #[error("{deb} is not a package that dpkg-deb can read: {message}; delete it to have it fetched again")]
    Damaged { deb: PathBuf, message: String },
    #[error("cannot unpack {path} of {deb}")]
    Entry { deb: PathBuf, path: String, source: io::Error },
    #[error("{deb} holds a path that leads out of its root: {path}")]
    Escapes { deb: PathBuf, path: String },
}

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    /// The source package that it was built from.
    pub(crate) source: String,
    pub(crate) source_version: String,
    /// `all` for one that is the same everywhere.
    pub(crate) architecture: String,
    /// `NAME <ADDRESS>`.
    pub(crate) maintainer: String,
}

pub(crate) fn control(deb: &Path) -> Result<Control, DebError> {
    let output = Command::new("dpkg-deb")
        .args([
            "--show",
            "--showformat=${source:Package}\n${source:Version}\n${Architecture}\n${Maintainer}\n",
        ])
        .arg(deb)
        .stdin(Stdio::null())
        .output()
        .map_err(DebError::Start)?;
    if !output.status.success() {
        return Err(damaged(deb, String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    Ok(Control { source: line(), source_version: line(), architecture: line(), maintainer: line() })
}

/// One entry of a package's file archive.
pub(crate) type DebEntry<'a> = Entry<'a, std::process::ChildStdout>;

/// Calls `visit` with each entry and its path: relative, without `.` and `..`, and below `usr/` where Debian's merged
/// layout has it.
pub(crate) fn visit(
    deb: &Path,
    mut visit: impl FnMut(&str, &mut DebEntry<'_>) -> io::Result<()>,
) -> Result<(), DebError> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DebError::Start)?;
    let Some(stdout) = child.stdout.take() else { return Err(damaged(deb, "no output")) };
    let result = each_entry(deb, Archive::new(stdout), &mut visit);
    let said = last_words(&mut child);
    let status = child.wait().map_err(DebError::Start)?;
    result?;
    if status.success() { Ok(()) } else { Err(damaged(deb, said.trim())) }
}

fn each_entry(
    deb: &Path,
    mut archive: Archive<std::process::ChildStdout>,
    visit: &mut impl FnMut(&str, &mut DebEntry<'_>) -> io::Result<()>,
) -> Result<(), DebError> {
    let entries = archive.entries().map_err(|error| damaged(deb, &error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(deb, &error.to_string()))?;
        let raw = entry.path().map_err(|error| damaged(deb, &error.to_string()))?.into_owned();
        let path = root_path(&raw)
            .ok_or_else(|| DebError::Escapes { deb: deb.to_owned(), path: raw.display().to_string() })?;
        if path.is_empty() {
            continue;
        }
        visit(&path, &mut entry).map_err(|source| DebError::Entry { deb: deb.to_owned(), path, source })?;
    }
    // Whoever writes into a closed pipe is killed: read what pads the archive's end.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| damaged(deb, &error.to_string()))?;
    Ok(())
}

/// A path of an archive as a path of a root: `./lib/x` is `usr/lib/x`, since a merged root has a link at `/lib`. None if
/// it leads out of the root or is not UTF-8.
pub(crate) fn root_path(path: &Path) -> Option<String> {
    let path = links::below_root(path)?;
    let merged =
        path.split_once('/').is_some_and(|(first, _)| ["bin", "lib", "lib64", "sbin"].contains(&first));
    Some(if merged { format!("usr/{path}") } else { path })
}

fn damaged(deb: &Path, message: &str) -> DebError {
    DebError::Damaged { deb: deb.to_owned(), message: message.to_owned() }
}

fn last_words(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // What cannot be read is missing from an error message, no more.
        let _ = stderr.take(4096).read_to_string(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_a_merged_root() {
        let path = |text: &str| root_path(Path::new(text));
        assert_eq!(path("./lib/x/y.so").as_deref(), Some("usr/lib/x/y.so"));
        assert_eq!(path("./usr/bin/git").as_deref(), Some("usr/bin/git"));
        assert_eq!(path("./").as_deref(), Some(""));
        assert_eq!(path("./libexec/z").as_deref(), Some("libexec/z"));
        assert_eq!(path("./usr/../../etc/passwd"), None);
    }

    #[test]
    fn what_is_no_package_is_called_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no archive").unwrap();
        let error = visit(file.path(), |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("is not a package that dpkg-deb can read"), "{error}");
    }
}
