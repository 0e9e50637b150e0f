//! Which paths a COPY needs: its source, and whatever symbolic links on the way to it point to.
//!
//! The daemon names the sources (`followpaths`); an image must not be built from a link whose target was not sent,
//! so each link met on the way becomes one path to send, and its target another.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::glob::{Dialect, Glob, characters};
use super::lexical;

/// A path of the context that could not be looked at.
#[derive(Debug, Error)]
#[error("cannot look at {path:?} to find what the Dockerfile copies")]
pub(crate) struct FollowError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The paths below `root` that have to be sent for `wanted`, sorted, none within another; empty means everything.
pub(crate) fn follow<P: AsRef<[u8]>>(root: &Path, wanted: &[P]) -> Result<Vec<Vec<u8>>, FollowError> {
    let mut resolver = Resolver { root, resolved: BTreeSet::new(), seen: BTreeSet::new(), left: Vec::new() };
    for path in wanted {
        resolver.visit(lexical::below_root(path.as_ref()), 0);
    }
    while let Some((path, links)) = resolver.left.pop() {
        resolver.resolve(&path, links)?;
    }
    Ok(outermost(resolver.resolved.into_iter().collect()))
}

/// Leaves out what lies within something else of the sorted list. With the root in it, nothing is left: no filter.
pub(crate) fn outermost(sorted: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(sorted.len());
    for path in sorted {
        if path == b"." {
            return Vec::new();
        }
        let within =
            |outer: &Vec<u8>| path.strip_prefix(outer.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
        if !kept.last().is_some_and(within) {
            kept.push(path);
        }
    }
    kept
}

/// How many links lead on from one path: Linux's own limit (`MAXSYMLINKS`). A loop ends there.
const MAX_LINKS: u32 = 40;

struct Resolver<'a> {
    root: &'a Path,
    resolved: BTreeSet<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
    /// What is still to be resolved, and how many links led there.
    left: Vec<(Vec<u8>, u32)>,
}

impl Resolver<'_> {
    fn visit(&mut self, path: Vec<u8>, links: u32) {
        if links <= MAX_LINKS && self.seen.insert(path.clone()) {
            self.left.push((path, links));
        }
    }

    /// Walks down `path` to its end or to the first link, whose target is visited later with the rest of the path.
    fn resolve(&mut self, path: &[u8], links: u32) -> Result<(), FollowError> {
        let mut current: Vec<u8> = b".".to_vec();
        let mut names = path.split(|byte| *byte == b'/');
        while let Some(name) = names.next() {
            current = lexical::join(&current, name);
            let rest: Vec<&[u8]> = names.clone().collect();
            let targets = self.targets(&current)?;
            if targets.is_empty() && !rest.is_empty() {
                continue;
            }
            self.resolved.insert(current);
            for target in targets {
                let whole = [target.as_slice(), &rest.join(&b'/')].join(&b'/');
                self.visit(lexical::below_root(&whole), links.saturating_add(1));
            }
            return Ok(());
        }
        Ok(())
    }

    /// Where `path` leads if it is a link, or where those links lead that match it.
    fn targets(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, FollowError> {
        let (directory, base) = (lexical::parent(path), lexical::base(path));
        if !has_wildcard(base) {
            return Ok(self.target(path)?.into_iter().collect());
        }
        let Ok(glob) = Glob::parse(base, Dialect::Name) else { return Ok(Vec::new()) };
        let mut targets = Vec::new();
        for name in self.names(directory)? {
            if glob.matches(&characters(&name)) {
                targets.extend(self.target(&lexical::join(directory, &name))?);
            }
        }
        Ok(targets)
    }

    /// The names in a directory, sorted; none if there is no such directory.
    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, FollowError> {
        let path = self.root.join(OsStr::from_bytes(directory));
        let read = || -> io::Result<Vec<Vec<u8>>> {
            let entries = std::fs::read_dir(&path)?;
            entries.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect()
        };
        let mut names =
            ignoring_absence(read()).map_err(|source| FollowError { path, source })?.unwrap_or_default();
        names.sort();
        Ok(names)
    }

    /// The target of a link, from the root; `None` for anything else and for what is not there.
    fn target(&self, path: &[u8]) -> Result<Option<Vec<u8>>, FollowError> {
        let on_disk = self.root.join(OsStr::from_bytes(path));
        let read = || match std::fs::symlink_metadata(&on_disk)?.is_symlink() {
            true => std::fs::read_link(&on_disk).map(Some),
            false => Ok(None),
        };
        let target = ignoring_absence(read())
            .map_err(|source| FollowError { path: on_disk.clone(), source })?
            .flatten();
        Ok(target.map(|target| {
            let target = target.as_os_str().as_bytes();
            if target.starts_with(b"/") {
                lexical::below_root(target)
            } else {
                // The link's own directory is clean, so only the target can climb, and the root stops it.
                lexical::below_root(&[lexical::parent(path), target].join(&b'/'))
            }
        }))
    }
}

fn ignoring_absence<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::builder::context::privileges::without_root;

    fn followed(root: &Path, wanted: &[&str]) -> Vec<String> {
        follow(root, wanted).unwrap().into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn links_on_the_way_and_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("dir/sub")).unwrap();
        fs::write(at("dir/sub/file"), "").unwrap();
        symlink("dir", at("link")).unwrap();
        symlink("../sub/file", at("dir/sub/up")).unwrap();
        symlink("/dir/sub", at("absolute")).unwrap();
        assert_eq!(followed(directory.path(), &["dir/sub/file"]), ["dir/sub/file"]);
        assert_eq!(followed(directory.path(), &["link/sub/file"]), ["dir/sub/file", "link"]);
        assert_eq!(followed(directory.path(), &["link/x", "link/y"]), ["dir/x", "dir/y", "link"]);
        assert_eq!(followed(directory.path(), &["absolute/up"]), ["absolute", "dir/sub/file", "dir/sub/up"]);
        assert_eq!(followed(directory.path(), &["missing/x"]), ["missing/x"]);
        assert_eq!(followed(directory.path(), &["/dir", "dir/sub/file"]), ["dir"]);
    }

    #[test]
    fn the_root_means_everything() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(followed(directory.path(), &["dir/file", "."]), Vec::<String>::new());
        symlink("..", directory.path().join("out")).unwrap();
        assert_eq!(
            followed(directory.path(), &["out"]),
            Vec::<String>::new(),
            "the root's parent is the root"
        );
    }

    #[test]
    fn wildcards_follow_the_links_among_their_matches() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("target")).unwrap();
        fs::create_dir(at("plain")).unwrap();
        symlink("target", at("l1")).unwrap();
        symlink("elsewhere", at("l2")).unwrap();
        assert_eq!(followed(directory.path(), &["l*"]), ["elsewhere", "l*", "target"]);
        assert_eq!(followed(directory.path(), &["l*/x"]), ["elsewhere/x", "l*", "target/x"]);
        assert_eq!(followed(directory.path(), &["pl*n/x"]), ["pl*n/x"]);
        assert_eq!(followed(directory.path(), &["l\\*"]), ["l\\*"]);
    }

    #[test]
    fn loops_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        symlink("self/deeper", at("self")).unwrap();
        symlink("grow/grow/x", at("grow")).unwrap();
        assert_eq!(followed(directory.path(), &["a/x"]), ["a", "b"]);
        assert_eq!(followed(directory.path(), &["self/y"]), ["self"]);
        assert_eq!(followed(directory.path(), &["grow"]), ["grow"]);
    }

    #[test]
    fn nothing_outside_of_the_context_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        fs::create_dir(&context).unwrap();
        symlink("../../secret", context.join("link")).unwrap();
        symlink("elsewhere", directory.path().join("secret")).unwrap();
        assert_eq!(followed(&context, &["link", "../secret"]), ["link", "secret"]);
    }

    #[test]
    fn an_unreadable_directory_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        without_root(directory.path(), || {
            let error = follow(directory.path(), &["closed/x"]).unwrap_err();
            assert!(error.to_string().starts_with("cannot look at "), "{error}");
        });
    }
}
