//! A result that is a directory: the receiver of fsutil's protocol. The sender is the guest, so nothing that it says is believed:
//! every path stays below the staging directory, and nothing there is written through a link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Arrived, ExportError};
use crate::builder::context::{Kind, Packet, Stat, go_mode, has_contents};

/// Files that a sender may fill at the same time; BuildKit's fills four.
const OPEN: usize = 64;
/// Entries of one output, and files of it that wait for their contents: a guest may not have this host count for ever.
const ENTRIES: u32 = 1 << 23;
const WAITING: usize = 1 << 20;
/// What may be set as an extended attribute: the rest is for the kernel's own use.
const ATTRIBUTES: [&str; 2] = ["user.", "security.capability"];

/// A whole tree inside of the directory that it belongs to.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Dropped first, so that the place is empty if it was.
    staging: TempDir,
    place: Place,
    directories: Vec<Directory>,
}

/// The directory that gets the result. One that was made for it goes again when it got nothing.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    is_ours: bool,
}

/// What a directory becomes once everything is in it.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    look: Look,
}

/// Permissions and time of an entry.
#[derive(Debug, Clone, Copy)]
struct Look {
    mode: u32,
    modified: i64,
}

/// Where what the sender is asked for and told goes.
type Outbound = mpsc::Sender<Result<Packet, Status>>;

/// Receives what `packets` bring until the sender has sent everything, and asks for contents through `outbound`.
pub(crate) fn receive(
    place: &Path,
    packets: mpsc::Receiver<Result<Packet, Status>>,
    outbound: &Outbound,
) -> Result<Arrived, ExportError> {
    let place = Place::at(place)?;
    let staging = tempfile::Builder::new().prefix(".mvm-output-").tempdir_in(&place.path);
    let staging = staging.map_err(ExportError::write(&place.path))?;
    let mut receiver = Receiver {
        root: staging.path(),
        outbound,
        above: Vec::new(),
        entries: 0,
        pending: HashMap::new(),
        open: HashMap::new(),
        directories: Vec::new(),
    };
    receiver.run(packets)?;
    let directories = receiver.directories;
    Ok(Arrived::Tree(Tree { staging, place, directories }))
}

impl Place {
    fn at(path: &Path) -> Result<Self, ExportError> {
        let is_ours = !path.exists();
        fs::create_dir_all(path).map_err(ExportError::write(path))?;
        Ok(Self { path: path.to_owned(), is_ours })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_ours {
            // With something in it, it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

struct Receiver<'a> {
    root: &'a Path,
    outbound: &'a Outbound,
    /// The directories from the root down to the last entry.
    above: Vec<Vec<u8>>,
    /// How many entries have come: an entry's number is its place in their order.
    entries: u32,
    /// Files whose contents are still to come.
    pending: HashMap<u32, (PathBuf, Look)>,
    open: HashMap<u32, File>,
    directories: Vec<Directory>,
}

impl Receiver<'_> {
    fn run(&mut self, mut packets: mpsc::Receiver<Result<Packet, Status>>) -> Result<(), ExportError> {
        let mut told_all = false;
        loop {
            if told_all && self.pending.is_empty() {
                self.answer(Packet::finish())?;
                told_all = false;
            }
            let packet = packets.blocking_recv().ok_or(ExportError::Lost)?.map_err(|_| ExportError::Lost)?;
            match packet.kind() {
                Kind::Stat => match packet.stat {
                    Some(stat) => self.entry(&stat)?,
                    None => told_all = true,
                },
                Kind::Data => self.contents(packet.id, &packet.data)?,
                // The sender answers our own with it.
                Kind::Finish => return Ok(()),
                Kind::Error => {
                    return Err(ExportError::Sender(String::from_utf8_lossy(&packet.data).into_owned()));
                }
                Kind::Request => return Err(ExportError::Unasked),
            }
        }
    }

    fn answer(&self, packet: Packet) -> Result<(), ExportError> {
        self.outbound.blocking_send(Ok(packet)).map_err(|_| ExportError::Lost)
    }

    /// Makes an entry, in a directory that we have made.
    fn entry(&mut self, stat: &Stat) -> Result<(), ExportError> {
        let id = self.entries;
        if id >= ENTRIES || self.pending.len() >= WAITING {
            return Err(ExportError::TooMany);
        }
        self.entries = id.saturating_add(1);
        self.enter_parent(&stat.path)?;
        let relative = Path::new(OsStr::from_bytes(&stat.path));
        let path = self.root.join(relative);
        let failed = ExportError::write(relative);
        let look = Look { mode: permissions(stat.mode), modified: stat.modified };
        if stat.mode & go_mode::DIRECTORY != 0 {
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
            self.above.push(stat.path.clone());
            self.directories.push(Directory { path: relative.to_owned(), look });
        } else if stat.mode & go_mode::SYMLINK != 0 {
            symlink(OsStr::from_bytes(&stat.link), &path)
                .and_then(|()| set_time(&path, look.modified))
                .map_err(failed)?;
        } else if !has_contents(stat.mode) {
            return Err(ExportError::Special(relative.to_owned()));
        } else if !stat.link.is_empty() {
            return self.hard_link(&stat.link, &path).map_err(failed);
        } else {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
            self.pending.insert(id, (path.clone(), look));
            // Told of at once, opened again when its contents come: there may be more files than descriptors.
            drop(file);
            self.answer(Packet::request(id))?;
        }
        set_attributes(&path, stat);
        Ok(())
    }

    /// What comes is a new entry of one of the directories that are open, and nothing else.
    fn enter_parent(&mut self, path: &[u8]) -> Result<(), ExportError> {
        let wrong = || ExportError::Path(PathBuf::from(OsStr::from_bytes(path)));
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            // An absolute path, which a join would take for itself.
            Some(0) => return Err(wrong()),
            Some(slash) => (path.get(..slash), path.get(slash.saturating_add(1)..)),
            None => (Some(&[][..]), Some(path)),
        };
        let (Some(parent), Some(name)) = (parent, name) else { return Err(wrong()) };
        if name.is_empty() || [b".".as_slice(), b".."].contains(&name) || name.contains(&0) {
            return Err(wrong());
        }
        while self.above.pop_if(|open| open.as_slice() != parent).is_some() {}
        if self.above.last().map_or(&[][..], Vec::as_slice) == parent { Ok(()) } else { Err(wrong()) }
    }

    /// Another name of a file that has come before.
    fn hard_link(&self, first: &[u8], path: &Path) -> io::Result<()> {
        let relative = Path::new(OsStr::from_bytes(first));
        let below = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        // Links on the way would lead out of the tree.
        let mut ways = relative.ancestors().skip(1).filter(|way| !way.as_os_str().is_empty());
        let is_plain =
            |way: &Path| fs::symlink_metadata(self.root.join(way)).is_ok_and(|found| found.is_dir());
        if !below || !ways.all(is_plain) {
            return Err(io::Error::other("it is linked to something outside of the output"));
        }
        fs::hard_link(self.root.join(relative), path)
    }

    fn contents(&mut self, id: u32, data: &[u8]) -> Result<(), ExportError> {
        let (path, look) = self.pending.get(&id).ok_or(ExportError::Unasked)?;
        let failed = |source| ExportError::Write { path: path.clone(), source };
        if !self.open.contains_key(&id) {
            if self.open.len() >= OPEN {
                return Err(ExportError::Unasked);
            }
            self.open.insert(id, File::options().append(true).open(path).map_err(failed)?);
        }
        if data.is_empty() {
            self.open.remove(&id);
            look.apply(path).map_err(failed)?;
            self.pending.remove(&id);
        } else if let Some(file) = self.open.get_mut(&id) {
            file.write_all(data).map_err(failed)?;
        }
        Ok(())
    }
}

impl Look {
    fn apply(self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?;
        set_time(path, self.modified)
    }
}

/// Unix's permissions of Go's mode.
fn permissions(mode: u32) -> u32 {
    let bits = [(go_mode::SETUID, 0o4000), (go_mode::SETGID, 0o2000), (go_mode::STICKY, 0o1000)];
    let set = bits.into_iter().filter(|(bit, _)| mode & bit != 0);
    set.fold(mode & 0o777, |permissions, (_, unix)| permissions | unix)
}

fn set_time(path: &Path, nanoseconds: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// As far as the file system takes them, and whoever runs this may set them.
fn set_attributes(path: &Path, stat: &Stat) {
    for (name, value) in &stat.attributes {
        if ATTRIBUTES.iter().any(|allowed| name.starts_with(allowed)) {
            let _ = rustix::fs::lsetxattr(path, name.as_str(), value, XattrFlags::empty());
        }
    }
}

impl Tree {
    /// Whether all of it has a place.
    pub(super) fn check(&self) -> Result<(), ExportError> {
        fits(self.staging.path(), &self.place.path)
    }

    /// Moves everything to its place, where it takes the place of files of the same names.
    pub(super) fn commit(self) -> Result<(), ExportError> {
        let Self { staging, mut place, directories } = self;
        place.is_ours = false;
        merge(staging.path(), &place.path)?;
        // What is in a directory changes its time, and what may not be written has to wait for its end.
        for directory in directories.iter().rev() {
            let path = place.path.join(&directory.path);
            directory.look.apply(&path).map_err(ExportError::write(&path))?;
        }
        Ok(())
    }
}

/// Nothing that is no directory can take a directory's place.
fn fits(from: &Path, to: &Path) -> Result<(), ExportError> {
    for entry in fs::read_dir(from).map_err(ExportError::write(from))? {
        let entry = entry.map_err(ExportError::write(from))?;
        let target = to.join(entry.file_name());
        if !fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return Err(ExportError::Directory(target));
        }
        fits(&entry.path(), &target)?;
    }
    Ok(())
}

fn merge(from: &Path, to: &Path) -> Result<(), ExportError> {
    let entries = fs::read_dir(from).map_err(ExportError::write(from))?;
    for entry in entries {
        let entry = entry.map_err(ExportError::write(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let failed = ExportError::write(target.clone());
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() && is_directory => merge(&source, &target)?,
            Ok(found) if found.is_dir() => return Err(ExportError::Directory(target)),
            // A directory takes no file's place by itself.
            Ok(_) if is_directory => {
                fs::remove_file(&target).and_then(|()| fs::rename(&source, &target)).map_err(failed)?;
            }
            _ => fs::rename(&source, &target).map_err(failed)?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
