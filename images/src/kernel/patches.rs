//! Changes of our own to the kernel's source: a component's `patches/`, in the order of their names.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use diffy::patch_set::{FileOperation, FilePatch, ParseOptions, PatchSet, PatchSetParseError};

use crate::files::Key;
use crate::recipe::Component;

/// Why a patch does not apply.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("the patch {patch} does not fit {version}; compare it with {file} there and write it anew")]
    Misfit { patch: String, version: String, file: String, source: Box<dyn Error + Send + Sync> },
    #[error("cannot read the patch {patch}")]
    Syntax { patch: String, source: PatchSetParseError },
    #[error("the patch {patch} does more than change text that is there, or changes nothing")]
    Kind { patch: String },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// Each by its file's name.
pub(super) struct Patches(Vec<(String, &'static str)>);

impl Patches {
    /// Those of several, one component's after another's.
    pub(super) fn of(components: &[&str]) -> Self {
        Self(components.iter().flat_map(|component| Component::patches(component)).collect())
    }

    pub(super) fn texts(&self) -> &[(String, &'static str)] {
        &self.0
    }

    /// Adds them to a key, which stays as it is where there are none.
    pub(super) fn add_to(&self, key: Key) -> Key {
        self.0.iter().fold(key, |key, (name, text)| key.with(name).with(text))
    }

    /// Changes the tree `linux`, whose version the errors name. What surrounds a change has to be there word for word,
    /// though it may have moved.
    pub(super) fn apply(&self, linux: &Path, version: &str) -> Result<(), PatchError> {
        for (name, text) in &self.0 {
            let patch = || name.to_owned();
            let mut changes = 0_u32;
            for file in PatchSet::parse(text, ParseOptions::unidiff()) {
                let file = file.map_err(|source| PatchError::Syntax { patch: patch(), source })?;
                apply_to_file(name, &file, linux, version)?;
                changes = changes.saturating_add(1);
            }
            if changes == 0 {
                return Err(PatchError::Kind { patch: patch() });
            }
        }
        Ok(())
    }
}

fn apply_to_file(
    name: &str,
    file: &FilePatch<'_, str>,
    linux: &Path,
    version: &str,
) -> Result<(), PatchError> {
    let (FileOperation::Modify { modified, .. }, Some(change)) = (file.operation(), file.patch().as_text())
    else {
        return Err(PatchError::Kind { patch: name.to_owned() });
    };
    // `b/` stands before it.
    let relative = modified.split_once('/').map_or(modified.as_ref(), |(_, path)| path);
    let misfit = |source| PatchError::Misfit {
        patch: name.to_owned(),
        version: version.to_owned(),
        file: relative.to_owned(),
        source,
    };
    let path = linux.join(relative);
    let before = fs::read_to_string(&path).map_err(|error| misfit(error.into()))?;
    let after = diffy::apply(&before, change).map_err(|error| misfit(error.into()))?;
    fs::write(&path, after).map_err(|source| PatchError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TO_THREE: &str =
        "Why.\n\n--- a/lib/file\n+++ b/lib/file\n@@ -1,3 +1,3 @@\n one\n-two\n+three\n four\n";

    /// What becomes of a file.
    fn apply(patch: &'static str, before: &str) -> Result<String, PatchError> {
        let linux = tempfile::tempdir().unwrap();
        let file = linux.path().join("lib/file");
        fs::create_dir(linux.path().join("lib")).unwrap();
        fs::write(&file, before).unwrap();
        let patches = Patches(vec![("0001-three.patch".to_owned(), patch)]);
        patches.apply(linux.path(), "linux-source 6.12.1").map(|()| fs::read_to_string(file).unwrap())
    }

    fn chain(error: &dyn Error) -> String {
        let cause = error.source().map(|cause| format!(": {}", chain(cause)));
        format!("{error}{}", cause.unwrap_or_default())
    }

    #[test]
    fn a_change_may_have_moved() {
        assert_eq!(apply(TWO_TO_THREE, "one\ntwo\nfour\n").unwrap(), "one\nthree\nfour\n");
        assert_eq!(apply(TWO_TO_THREE, "new\none\ntwo\nfour\n").unwrap(), "new\none\nthree\nfour\n");
    }

    #[test]
    fn a_patch_that_does_not_fit_is_named_with_the_version() {
        for before in ["one\ntwo\nfive\n", "one\nthree\nfour\n", ""] {
            let error = apply(TWO_TO_THREE, before).unwrap_err();
            assert_eq!(
                chain(&error),
                "the patch 0001-three.patch does not fit linux-source 6.12.1; compare it with lib/file there and \
                 write it anew: error applying hunk #1"
            );
        }
        let elsewhere: &'static str = TWO_TO_THREE.replace("lib/file", "lib/none").leak();
        let error = chain(&apply(elsewhere, "").unwrap_err());
        assert!(error.contains("compare it with lib/none there and write it anew: No such file"), "{error}");
    }

    #[test]
    fn a_patch_of_another_kind_is_refused() {
        let creates = "--- /dev/null\n+++ b/lib/more\n@@ -0,0 +1 @@\n+one\n";
        let error = apply(creates, "").unwrap_err().to_string();
        assert_eq!(
            error,
            "the patch 0001-three.patch does more than change text that is there, or changes nothing"
        );
        let error = chain(&apply("no patch at all\n", "").unwrap_err());
        assert!(error.starts_with("cannot read the patch 0001-three.patch: "), "{error}");
    }

    #[test]
    fn those_of_the_kernel_can_be_read_and_come_in_order() {
        let Patches(patches) = Patches::of(&["kernel"]);
        assert!(!patches.is_empty() && patches.is_sorted());
        for (name, text) in patches {
            assert!(name.ends_with(".patch"), "{name}");
            let files: Result<Vec<_>, _> = PatchSet::parse(text, ParseOptions::unidiff()).collect();
            assert!(files.is_ok_and(|files| !files.is_empty()), "{name}");
        }
    }

    #[test]
    fn each_counts_in_the_key_and_none_leaves_it_as_it_was() {
        let key = |patches: &[(&str, &'static str)]| {
            let patches = patches.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect();
            Patches(patches).add_to(Key::default().with("kernel")).short()
        };
        assert_eq!(key(&[]), Key::default().with("kernel").short());
        assert_ne!(key(&[("a", TWO_TO_THREE)]), key(&[]));
        assert_ne!(key(&[("a", TWO_TO_THREE)]), key(&[("a", "")]));
    }
}
