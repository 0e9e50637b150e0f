//! What is registered with binfmt_misc, to see whether it has changed since a test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

pub(super) const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// Each registration with its text (Linux, admin-guide/binfmt-misc.rst), and whether the whole is switched on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Registrations(BTreeMap<OsString, Option<String>>);

impl Registrations {
    pub(super) fn read(directory: &Path) -> Self {
        let Ok(entries) = std::fs::read_dir(directory) else { return Self::default() };
        // `register` is only written to, and reading it fails.
        let text = |entry: std::fs::DirEntry| (entry.file_name(), std::fs::read_to_string(entry.path()).ok());
        Self(entries.flatten().map(text).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Registrations;

    #[test]
    fn a_registration_that_goes_or_is_switched_off_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("qemu-arm");
        std::fs::write(&file, "enabled\n").unwrap();
        let before = Registrations::read(directory.path());
        assert_eq!(Registrations::read(directory.path()), before);
        std::fs::write(&file, "disabled\n").unwrap();
        assert_ne!(Registrations::read(directory.path()), before);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(Registrations::read(directory.path()), Registrations::default());
    }
}
