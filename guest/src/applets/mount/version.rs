//! The version of what is on the disk. An appliance takes a disk of its own version and older ones, and leaves alone what a
//! newer one has written.

use std::fs;
use std::io;
use std::path::Path;

const NAME: &str = ".mvm-version";

/// A newer appliance has used the disk.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data disk is of version {found}, and this appliance knows version {own}: a newer one has used it; boot that one, or give another instance a disk of its own"
)]
pub(crate) struct Newer {
    found: u32,
    own: u32,
}

/// Notes the appliance's version on the disk; what there is to say of that.
pub(super) fn settle(disk: &Path, own: u32) -> Result<Option<String>, Newer> {
    let file = disk.join(NAME);
    let found = match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse::<u32>().ok(),
        Err(_) => None,
    };
    match found {
        Some(found) if found > own => return Err(Newer { found, own }),
        Some(found) if found == own => return Ok(None),
        _ => {}
    }
    let older =
        found.map(|found| format!("the data disk was of version {found}, and is of version {own} now"));
    match note(disk, &file, own) {
        Ok(()) => Ok(older),
        // A disk that is full is no reason not to boot.
        Err(error) => Ok(Some(format!("cannot note the version of {}: {error}", disk.display()))),
    }
}

/// Whole or not there: an empty file would say nothing to a later boot.
fn note(disk: &Path, file: &Path, own: u32) -> io::Result<()> {
    let new = disk.join(format!("{NAME}.new"));
    fs::write(&new, format!("{own}\n"))?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

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
