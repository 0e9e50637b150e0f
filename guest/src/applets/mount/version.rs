//! The version of what is on the disk. An appliance takes a disk of its own version and older ones, and leaves alone what a
//! newer one has written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = ".mvm-version";

/// Why the appliance leaves the disk alone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    #[error(
        "the data disk is of version {found}, and this appliance knows version {own}: a newer one has used it; boot that one, or give another instance a disk of its own"
    )]
    Newer { found: u32, own: u32 },
    #[error("cannot read the data disk's version in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// The version that was noted on the disk; zero where there is none. Changes nothing.
pub(super) fn check(disk: &Path, own: u32) -> Result<u32, VersionError> {
    let path = disk.join(NAME);
    let found = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => return Err(VersionError::Read { path, source }),
    };
    if found > own { Err(VersionError::Newer { found, own }) } else { Ok(found) }
}

/// Notes the appliance's version; what there is to say of that.
pub(super) fn note(disk: &Path, own: u32, found: u32) -> Option<String> {
    if found == own {
        return None;
    }
    match write(disk, own) {
        Ok(()) if found == 0 => None,
        Ok(()) => Some(format!("the data disk was of version {found}, and is of version {own} now")),
        // A disk that is full is no reason not to boot.
        Err(error) => Some(format!("cannot note the version of {}: {error}", disk.display())),
    }
}

/// Whole or not there: an empty file would say nothing to a later boot.
fn write(disk: &Path, own: u32) -> io::Result<()> {
    let new = disk.join(format!("{NAME}.new"));
    let mut file = File::create(&new)?;
    file.write_all(format!("{own}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(new, disk.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(disk: &Path, own: u32) -> Result<Option<String>, VersionError> {
        Ok(note(disk, own, check(disk, own)?))
    }

    #[test]
    fn a_disk_goes_with_newer_appliances_and_not_back() {
        let disk = tempfile::tempdir().unwrap();
        assert_eq!(settle(disk.path(), 1).unwrap(), None, "a new one");
        assert_eq!(settle(disk.path(), 1).unwrap(), None);
        let text = settle(disk.path(), 3).unwrap().unwrap();
        assert_eq!(text, "the data disk was of version 1, and is of version 3 now");
        let error = settle(disk.path(), 2).unwrap_err().to_string();
        assert!(
            error.starts_with("the data disk is of version 3, and this appliance knows version 2: "),
            "{error}"
        );
        assert_eq!(settle(disk.path(), 3).unwrap(), None, "it was left as it is");
    }

    #[test]
    fn what_is_no_version_is_written_anew() {
        let disk = tempfile::tempdir().unwrap();
        fs::write(disk.path().join(NAME), "").unwrap();
        settle(disk.path(), 1).unwrap();
        assert_eq!(fs::read_to_string(disk.path().join(NAME)).unwrap(), "1\n");
    }
}
