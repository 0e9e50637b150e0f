//! Packages onto the disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use globset::GlobSet;
use tar::EntryType;

use super::{ToolError, io_error};
use crate::deb::{self, DebEntry, root_path};

/// A root that is being filled.
pub(super) struct Unpacking<'a> {
    root: PathBuf,
    omit: &'a GlobSet,
}

impl<'a> Unpacking<'a> {
    /// Makes the links of a merged root, and the directories that mounts need.
    pub(super) fn new(root: &Path, omit: &'a GlobSet) -> Result<Self, ToolError> {
        let unpacking = Self { root: root.to_owned(), omit };
        for directory in ["dev", "tmp", "build", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|source| io_error("create", &path, source))?;
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            unpacking.link(name, &format!("usr/{name}"))?;
        }
        Ok(unpacking)
    }

    /// Adds the files of a package.
    pub(super) fn add(&self, package: &Path) -> Result<(), ToolError> {
        deb::visit(
            package,
            |path, entry| {
                if self.omit.is_match(path) { Ok(()) } else { self.add_entry(path, entry) }
            },
        )?;
        Ok(())
    }

    /// Makes a link, in place of whatever a package had there.
    pub(super) fn link(&self, path: &str, target: &str) -> Result<(), ToolError> {
        let place = self.root.join(path);
        remove(&place)
            .and_then(|()| symlink(target, &place))
            .map_err(|source| io_error("write", &place, source))
    }

    fn add_entry(&self, path: &str, entry: &mut DebEntry<'_>) -> io::Result<()> {
        let place = self.place(path)?;
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&place),
            EntryType::Regular => {
                let mode = entry.header().mode()? & 0o755 | 0o200;
                // A link of that name would lead the file elsewhere.
                remove(&place)?;
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&place)?;
                io::copy(entry, &mut file).map(drop)
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?;
                remove(&place)?;
                symlink(target, &place)
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link to nothing"))?;
                let target =
                    root_path(&target).ok_or_else(|| io::Error::other("the link leads out of the root"))?;
                remove(&place)?;
                fs::hard_link(self.place(&target)?, &place)
            }
            // Devices and the like are of no use to a program that only reads its own files.
            _ => Ok(()),
        }
    }

    /// Where an entry goes. Links that packages made before could lead anywhere, so the directory is resolved first.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let place = self.root.join(path);
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::Error::other("no file name"));
        };
        fs::create_dir_all(parent)?;
        let parent = parent.canonicalize()?;
        if !parent.starts_with(self.root.canonicalize()?) {
            return Err(io::Error::other("a link leads out of the root"));
        }
        Ok(parent.join(name))
    }
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A package that holds what `fill` puts into its root.
    fn package(dir: &Path, name: &str, fill: impl Fn(&Path)) -> PathBuf {
        let root = dir.join(name);
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        let control =
            format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n");
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        fill(&root);
        let deb = dir.join(format!("{name}.deb"));
        let made = Command::new("dpkg-deb").arg("--build").arg(&root).arg(&deb).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        deb
    }

    #[test]
    fn a_file_takes_a_links_place_and_is_not_written_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "untouched").unwrap();
        let link = package(dir.path(), "link", |root| symlink(&outside, root.join("x")).unwrap());
        let file = package(dir.path(), "file", |root| fs::write(root.join("x"), "new").unwrap());

        let root = dir.path().join("root");
        let omit = GlobSet::empty();
        let unpacking = Unpacking::new(&root, &omit).unwrap();
        unpacking.add(&link).unwrap();
        unpacking.add(&file).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
        assert!(fs::symlink_metadata(root.join("x")).unwrap().is_file());
        assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "new");
    }
}
