//! The entries of a context in the order that the receiver demands: depth first, names of a directory sorted as
//! bytes, a directory before what it holds, and directories of kept entries even where they are not kept themselves.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::filter::{Above, Filter};
use super::lexical;
use super::packet::Stat;
use super::stat;

/// An entry that could not be looked at.
#[derive(Debug, Error)]
#[error("cannot read {path:?} of the build context; make it readable, or name it in .dockerignore")]
pub(crate) struct WalkError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A walk under way: an iterator over the entries.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    root: &'a Path,
    filter: &'a Filter,
    /// The directories from the root down to where we are.
    open: Vec<Directory>,
    /// Entries found and not yet handed out: a kept one behind the directories that it needs.
    ready: std::collections::VecDeque<Stat>,
    /// Under which path a file with several names was sent first.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

#[derive(Debug)]
struct Directory {
    path: Vec<u8>,
    above: Above,
    /// Names still to come, the next one last.
    names: Vec<Vec<u8>>,
    sent: bool,
}

impl<'a> Walk<'a> {
    /// Starts at `root`, which is not itself an entry.
    pub(crate) fn new(root: &'a Path, filter: &'a Filter) -> Result<Self, WalkError> {
        let names = names(root).map_err(|source| WalkError { path: root.to_owned(), source })?;
        let top = Directory { path: Vec::new(), above: Above::default(), names, sent: true };
        Ok(Self { root, filter, open: vec![top], ready: [].into(), first_names: HashMap::new() })
    }

    fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Looks at the next name; `false` when there is none.
    fn step(&mut self) -> Result<bool, WalkError> {
        let Some(directory) = self.open.last_mut() else { return Ok(false) };
        let Some(name) = directory.names.pop() else {
            self.open.pop();
            return Ok(true);
        };
        let path = lexical::join(&directory.path, &name);
        let verdict = self.filter.judge(&path, &directory.above);
        let on_disk = self.on_disk(&path);
        if !verdict.keep && !verdict.enter {
            return Ok(true);
        }
        let failed = |source| WalkError { path: on_disk.clone(), source };
        let Some(metadata) = unless_gone(std::fs::symlink_metadata(&on_disk)).map_err(failed)? else {
            return Ok(true);
        };
        if verdict.keep {
            self.send_open_directories()?;
            self.send(path.clone(), &on_disk, &metadata)?;
        }
        if metadata.is_dir() && verdict.enter {
            let found = match names(&on_disk) {
                // What is not sent may be unreadable.
                Err(error) if !verdict.keep && error.kind() == io::ErrorKind::PermissionDenied => None,
                other => unless_gone(other).map_err(failed)?,
            };
            let names = found.unwrap_or_default();
            self.open.push(Directory { path, above: verdict.above, names, sent: verdict.keep });
        }
        Ok(true)
    }

    /// The receiver wants a directory before its entries.
    fn send_open_directories(&mut self) -> Result<(), WalkError> {
        let unsent: Vec<Vec<u8>> = self
            .open
            .iter_mut()
            .filter(|open| !open.sent)
            .map(|open| (open.sent = true, open.path.clone()).1)
            .collect();
        for path in unsent {
            let on_disk = self.on_disk(&path);
            let metadata = std::fs::symlink_metadata(&on_disk)
                .map_err(|source| WalkError { path: on_disk.clone(), source })?;
            self.send(path, &on_disk, &metadata)?;
        }
        Ok(())
    }

    fn send(&mut self, path: Vec<u8>, on_disk: &Path, metadata: &Metadata) -> Result<(), WalkError> {
        let read = stat::of(path, on_disk, metadata);
        let entry = unless_gone(read).map_err(|source| WalkError { path: on_disk.to_owned(), source })?;
        let Some(mut entry) = entry else { return Ok(()) };
        if metadata.nlink() > 1 && !metadata.is_dir() && !metadata.is_symlink() {
            let file = (metadata.dev(), metadata.ino());
            match self.first_names.get(&file) {
                Some(first) => (entry.link, entry.size) = (first.clone(), 0),
                None => drop(self.first_names.insert(file, entry.path.clone())),
            }
        }
        self.ready.push_back(entry);
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Stat, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.open.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The names in a directory, the first one last.
fn names(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(directory)?;
    let mut names =
        entries.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// A file that vanishes while the tree is walked was never there.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::filter::Selection;
    use super::*;
    use crate::builder::context::privileges::without_root;

    fn bytes(list: &[&str]) -> Vec<Vec<u8>> {
        list.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn entries(root: &Path, exclude: &[&str], follow: &[&str]) -> Vec<Stat> {
        let selection = Selection { exclude: bytes(exclude), follow: bytes(follow), ..Selection::default() };
        let filter = Filter::new(root, &selection).unwrap();
        Walk::new(root, &filter).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn paths(root: &Path, exclude: &[&str], follow: &[&str]) -> Vec<String> {
        entries(root, exclude, follow)
            .into_iter()
            .map(|entry| String::from_utf8(entry.path).unwrap())
            .collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    #[test]
    fn depth_first_and_sorted_by_name_not_by_path() {
        let tree = tree(&["a-b", "a/x", "a.c", "Z", "ä", "a/é/1"]);
        let wanted = ["Z", "a", "a/x", "a/é", "a/é/1", "a-b", "a.c", "ä"];
        assert_eq!(paths(tree.path(), &[], &[]), wanted);
    }

    #[test]
    fn a_kept_entry_brings_its_directories() {
        let tree = tree(&["a/b/keep", "a/b/drop", "a/c/drop", "other/keep.not"]);
        assert_eq!(paths(tree.path(), &["*", "!a/b/keep"], &[]), ["a", "a/b", "a/b/keep"]);
        assert_eq!(paths(tree.path(), &["**", "!**/keep"], &[]), ["a", "a/b", "a/b/keep"]);
        assert_eq!(paths(tree.path(), &[], &["a/b/keep"]), ["a", "a/b", "a/b/keep"]);
    }

    #[test]
    fn hard_links_name_the_first_path_that_is_sent() {
        let tree = tree(&["1/first", "2/x"]);
        fs::hard_link(tree.path().join("1/first"), tree.path().join("2/second")).unwrap();
        fs::hard_link(tree.path().join("1/first"), tree.path().join("3rd")).unwrap();
        let links = |exclude: &[&str]| -> Vec<(String, i64)> {
            let files =
                entries(tree.path(), exclude, &[]).into_iter().filter(|entry| stat::has_contents(entry.mode));
            files.map(|entry| (String::from_utf8(entry.link).unwrap(), entry.size)).collect()
        };
        let linked = || ("1/first".to_owned(), 0);
        assert_eq!(links(&[]), [(String::new(), 7), linked(), (String::new(), 3), linked()]);
        assert_eq!(links(&["1", "2/x"]), [(String::new(), 7), ("2/second".to_owned(), 0)]);
    }

    #[test]
    fn odd_names_travel_as_they_are() {
        let tree = tree(&[&"n".repeat(255), "a b", "new\nline", "*", "[x]", "!bang", "#hash"]);
        fs::write(tree.path().join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
        let found: Vec<Vec<u8>> =
            entries(tree.path(), &[], &[]).into_iter().map(|entry| entry.path).collect();
        assert_eq!(found.len(), 8);
        assert_eq!(found.last().unwrap(), b"\xff\xfe");
        assert!(found.iter().any(|name| name.len() == 255));
    }

    #[test]
    fn a_deep_tree_and_a_loop_of_links() {
        let deep = vec!["d"; 400].join("/");
        let tree = tree(&[&format!("{deep}/file")]);
        symlink(".", tree.path().join("loop")).unwrap();
        let found = paths(tree.path(), &[], &[]);
        assert_eq!(
            found.len(),
            402,
            "400 directories, a file in the last, and the link, which is not followed"
        );
    }

    #[test]
    fn what_is_excluded_may_be_unreadable_and_nothing_else() {
        let tree = tree(&["closed/x", "open"]);
        fs::set_permissions(tree.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        without_root(tree.path(), || {
            assert_eq!(paths(tree.path(), &["closed"], &[]), ["open"]);
            assert_eq!(paths(tree.path(), &["closed", "!closed/y"], &[]), ["open"]);
            let filter = Filter::new(tree.path(), &Selection::default()).unwrap();
            let error = Walk::new(tree.path(), &filter).unwrap().find_map(Result::err).unwrap();
            let wanted = "of the build context; make it readable, or name it in .dockerignore";
            assert!(error.to_string().ends_with(wanted), "{error}");
        });
    }
}
