//! The locked packages on this machine: `packages/SHA256.deb` in the cache.
//!
//! A package's name in the cache is its hash, so what is there is right, and a build that finds everything there never
//! starts apt.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::apt::{Apt, AptError, Candidate};
use crate::files;
use crate::lock::{Lock, LockError, Name, Pin};
use crate::progress::{Progress, Stage, Unit};
use crate::request::Directories;
use crate::scratch::Scratch;

/// Why the packages are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    #[error(transparent)]
    Apt(#[from] AptError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{}; or set MVM_DEBIAN_MIRROR to a mirror that still has what is locked", gone.join("; "))]
    Gone { gone: Vec<String> },
    #[error("{package} arrived with another hash than the lock has ({found})")]
    Hash { package: String, found: String },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Finds locked packages in the cache, and fetches the missing ones.
pub(crate) struct Packages<'a> {
    pub(crate) directories: &'a Directories,
    pub(crate) lock: &'a Lock,
    pub(crate) progress: &'a dyn Progress,
}

impl Packages<'_> {
    /// Makes sure that all of these are in the cache, with one run of apt for each suite that lacks any.
    pub(crate) fn fetch(&self, names: &BTreeSet<Name>) -> Result<(), PackagesError> {
        let mut missing: BTreeMap<(&str, &str), Vec<(&Name, &Pin)>> = BTreeMap::new();
        for name in names {
            let pin = self.lock.pin(name)?;
            if !self.cached(pin).exists() {
                missing.entry((&name.suite, &name.architecture)).or_default().push((name, pin));
            }
        }
        for ((suite, architecture), wanted) in missing {
            let apt = Apt::open(&self.directories.apt(), suite, architecture)?;
            self.check_still_there(&apt, &wanted)?;
            self.download(&apt, suite, &wanted)?;
        }
        Ok(())
    }

    /// The file of a package that [`Packages::fetch`] brought.
    pub(crate) fn file(&self, name: &Name) -> Result<PathBuf, PackagesError> {
        Ok(self.cached(self.lock.pin(name)?))
    }

    fn cached(&self, pin: &Pin) -> PathBuf {
        self.directories.packages().join(format!("{}.deb", pin.sha256))
    }

    /// Fails by name when the suite has other versions now. Indexes that were fetched before may be too old to tell.
    fn check_still_there(&self, apt: &Apt, wanted: &[(&Name, &Pin)]) -> Result<(), PackagesError> {
        if apt.has_indexes() && gone(apt, wanted)?.is_empty() {
            return Ok(());
        }
        Stage::run(self.progress, "packages: index", || apt.update())?;
        let gone = gone(apt, wanted)?;
        if gone.is_empty() { Ok(()) } else { Err(PackagesError::Gone { gone }) }
    }

    fn download(&self, apt: &Apt, suite: &str, wanted: &[(&Name, &Pin)]) -> Result<(), PackagesError> {
        let total = wanted.iter().map(|(_, pin)| pin.size).fold(0, u64::saturating_add);
        let title = format!("packages: {} of {suite}", wanted.len());
        let stage = Stage::start(self.progress, &title, Some(total), Unit::Bytes);
        let cache = self.directories.packages();
        fs::create_dir_all(&cache).map_err(|source| io_error("create", &cache, source))?;
        let arrivals =
            Scratch::below(&cache).map_err(|source| io_error("create a directory in", &cache, source))?;
        let pins: Vec<_> =
            wanted.iter().map(|(name, pin)| format!("{}={}", name.package, pin.version)).collect();
        apt.download(&pins, arrivals.path(), &mut |percent| stage.advance(share(total, percent)))?;
        self.take_in(arrivals.path(), wanted)?;
        stage.end();
        Ok(())
    }

    /// Moves what arrived to its hash's name. apt has verified it against the suite's signed index, and here it is
    /// held against the lock.
    fn take_in(&self, arrivals: &Path, wanted: &[(&Name, &Pin)]) -> Result<(), PackagesError> {
        let mut found = BTreeMap::new();
        let entries = fs::read_dir(arrivals).map_err(|source| io_error("list", arrivals, source))?;
        for entry in entries {
            let path = entry.map_err(|source| io_error("list", arrivals, source))?.path();
            let hash = files::sha256(&path).map_err(|source| io_error("read", &path, source))?;
            found.insert(hash, path);
        }
        for (name, pin) in wanted {
            let Some(path) = found.get(&pin.sha256) else {
                let found = found.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(PackagesError::Hash { package: name.to_string(), found });
            };
            let place = self.cached(pin);
            fs::rename(path, &place).map_err(|source| io_error("write", &place, source))?;
        }
        Ok(())
    }
}

/// What the suite has in place of the wanted packages, a sentence for each that is not there any more.
fn gone(apt: &Apt, wanted: &[(&Name, &Pin)]) -> Result<Vec<String>, AptError> {
    let names: Vec<_> = wanted.iter().map(|(name, _)| name.package.clone()).collect();
    let candidates = current(apt, &names)?;
    Ok(wanted.iter().filter_map(|(name, pin)| sentence(name, pin, &candidates)).collect())
}

fn sentence(name: &Name, pin: &Pin, candidates: &[Candidate]) -> Option<String> {
    let gone = format!("{} {} is no longer in {}", name.package, pin.version, name.suite);
    match candidates.iter().find(|candidate| candidate.name == name.package) {
        Some(now) if now.version == pin.version && now.sha256 == pin.sha256 => None,
        Some(now) => Some(format!("{gone}, which has {}", now.version)),
        None => Some(gone),
    }
}

/// What the suite has now under these names, leaving out what it does not have at all.
fn current(apt: &Apt, names: &[String]) -> Result<Vec<Candidate>, AptError> {
    match apt.candidates(names) {
        Err(AptError::Failed { .. }) => {}
        other => return other,
    }
    let mut found = Vec::new();
    for name in names {
        match apt.candidates(std::slice::from_ref(name)) {
            Ok(candidates) => found.extend(candidates),
            Err(AptError::Failed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // a progress bar
fn share(total: u64, percent: f64) -> u64 {
    (total as f64 * (percent / 100.0).clamp(0.0, 1.0)) as u64
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> PackagesError {
    PackagesError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_moved_on_is_named_with_what_is_there_now() {
        let name = Name { suite: "forky".into(), architecture: "amd64".into(), package: "docker.io".into() };
        let pin = Pin { version: "28.5.2+dfsg4-5".into(), size: 1, sha256: "a".into() };
        let mut now =
            Candidate { name: "docker.io".into(), version: "28.5.3-1".into(), size: 1, sha256: "b".into() };
        let gone = vec![sentence(&name, &pin, std::slice::from_ref(&now)).unwrap()];
        assert_eq!(
            PackagesError::Gone { gone }.to_string(),
            "docker.io 28.5.2+dfsg4-5 is no longer in forky, which has 28.5.3-1; or set MVM_DEBIAN_MIRROR to a mirror \
             that still has what is locked"
        );
        assert_eq!(
            sentence(&name, &pin, &[]).as_deref(),
            Some("docker.io 28.5.2+dfsg4-5 is no longer in forky")
        );
        now.version.clone_from(&pin.version);
        now.sha256.clone_from(&pin.sha256);
        assert_eq!(sentence(&name, &pin, &[now]), None);
    }
}
