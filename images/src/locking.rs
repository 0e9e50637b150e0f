//! Which lock holds for a definition, and making a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::apt::{Apt, AptError, Candidate};
use crate::architecture::{Architecture, UnknownArchitecture};
use crate::embedded;
use crate::files::{self, Key};
use crate::kernel::{self, KernelError};
use crate::layout::{Layout, LayoutError};
use crate::lock::{Lock, LockError, Name, Pin, is_sha256};
use crate::packages::PackagesError;
use crate::progress::{Progress, Stage, Unit};
use crate::recipe::{Component, RecipeError, Tool};
use crate::request::{Directories, Pins};
use crate::source::{Source, SourceError};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockingError {
    #[error("a new lock is needed; run `{command}`")]
    Outdated { command: String, source: Box<dyn Error + Send + Sync> },
    #[error("the lock {path} cannot be used; `{command}` makes a new one")]
    Unusable { path: PathBuf, command: String, source: LockError },
    #[error(
        "the image {0} is not here, and a lock needs to know which it is; `mvm image pull {0}` or `mvm image import` brings it"
    )]
    NoImage(String),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{appliance} cannot be made again with what it was made with")]
    Again { appliance: String, source: Box<dyn Error + Send + Sync> },
    #[error("the lock that is kept with {appliance} cannot be used")]
    Kept { appliance: String, source: LockError },
    #[error(
        "apt names no SHA-256 of {package}, and a lock needs one; set MVM_DEBIAN_MIRROR to another mirror"
    )]
    NoHash { package: String },
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Apt(#[from] AptError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Kernel(Box<KernelError>),
}

impl From<KernelError> for LockingError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(Box::new(error))
    }
}

/// The lock that holds: a file's own, if it has one, else the one made on this machine, else the embedded one.
///
/// An appliance that is made again is made with what is kept of the lock that it was made with.
pub(crate) fn effective(source: &Source, directories: &Directories) -> Result<Lock, LockingError> {
    if let Source::Kept { appliance, lock, .. } = source {
        let lock = Lock::parse(lock);
        let mut lock = lock.map_err(|source| LockingError::Kept { appliance: appliance.clone(), source })?;
        lock.is_own = true;
        return Ok(lock);
    }
    let path = place(source, directories);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match source.file() {
            None => embedded::LOCK.to_owned(),
            Some(_) => return effective(&Source::Embedded, directories),
        },
        Err(source) => return Err(LockingError::Io { action: "read", path, source }),
    };
    let lock = Lock::parse(&text);
    let mut lock =
        lock.map_err(|error| LockingError::Unusable { path, command: command(source), source: error })?;
    lock.is_own = source.file().is_some();
    Ok(lock)
}

/// Works with the lock that holds; where that fails because a package is gone and `pins` allows it, once more with a new
/// lock, after saying what has moved. Where it still fails for that, the error says how to make the lock anew.
pub(crate) fn with_pins<T, E>(
    pins: Pins,
    source: &Source,
    directories: &Directories,
    progress: &dyn Progress,
    work: impl Fn(&Lock) -> Result<T, E>,
) -> Result<T, E>
where
    E: Error + From<LockingError> + Send + Sync + 'static,
{
    // Made with another, it would not be the same.
    let is_kept = matches!(source, Source::Kept { .. });
    let done = match effective(source, directories).map_err(E::from).and_then(|lock| work(&lock)) {
        Err(error) if pins == Pins::RelockIfGone && is_gone(&error) && !is_kept => {
            let stage = Stage::start(progress, "packages: lock anew", None, Unit::Files);
            let (lock, changes) = relock(source, directories, progress)?;
            for change in &changes {
                stage.say(change);
            }
            stage.end();
            work(&lock)
        }
        other => other,
    };
    done.map_err(|error| match source {
        _ if !is_gone(&error) => error,
        Source::Kept { appliance, .. } => {
            LockingError::Again { appliance: appliance.clone(), source: Box::new(error) }.into()
        }
        Source::Embedded | Source::Parts(_) => {
            LockingError::Outdated { command: command(source), source: Box::new(error) }.into()
        }
    })
}

/// Whether a new lock would help: a package that is gone or not named, wherever the chain of causes has it. A lock that
/// cannot be read is another matter: it may be a newer mvm's, or somebody's work.
fn is_gone(error: &(dyn Error + 'static)) -> bool {
    let gone = matches!(
        error.downcast_ref::<PackagesError>(),
        Some(
            PackagesError::Gone { .. }
                | PackagesError::Hash { .. }
                | PackagesError::Lock(LockError::Unlocked { .. } | LockError::Kernel { .. })
        )
    );
    let unlocked = matches!(
        error.downcast_ref::<LockError>(),
        Some(LockError::Unlocked { .. } | LockError::Kernel { .. })
    );
    gone || unlocked || error.source().is_some_and(is_gone)
}

/// What makes the lock of a definition anew.
fn command(source: &Source) -> String {
    match source.file() {
        None => "mvm image lock".to_owned(),
        Some(path) => format!("mvm image lock {}", path.display()),
    }
}

/// Resolves every package of every component and tool anew, writes the lock and returns it with what changed.
pub(crate) fn relock(
    source: &Source,
    directories: &Directories,
    progress: &dyn Progress,
) -> Result<(Lock, Vec<String>), LockingError> {
    let older = match effective(source, directories) {
        // Whoever asks for a new lock means to lose one that is no lock.
        Err(LockingError::Unusable { .. }) => Lock::default(),
        older => older?,
    };
    let architecture = Architecture::host()?;
    let mut lock = Resolver { architecture, directories, progress, suites: BTreeMap::new() }.resolve()?;
    lock.keep_other_architectures(&older, architecture.debian);
    let layout = Layout::open(&directories.images())?;
    let definition = source.read()?;
    for name in definition.foreign_images() {
        let image = match (layout.find(name)?, older.image(name).ok().flatten()) {
            (None, Some(digest)) => layout.find_digest(digest)?,
            (found, _) => found,
        };
        let image = image.ok_or_else(|| LockingError::NoImage(name.to_owned()))?;
        lock.set_image(name, image.digest().clone());
    }
    lock.is_own = source.file().is_some();
    let path = place(source, directories);
    files::write_atomically(&path, lock.to_text()?.as_bytes()).map_err(|source| LockingError::Io {
        action: "write",
        path,
        source,
    })?;
    let changes = lock.changes_from(&older);
    Ok((lock, changes))
}

/// A definition of the user's has its lock beside it. The embedded one's stands for exactly the embedded lock: a newer
/// mvm brings a newer lock, and an older answer to it must not come back.
fn place(source: &Source, directories: &Directories) -> PathBuf {
    match source.file() {
        None => {
            let key = Key::default().with(embedded::LOCK).short();
            directories.locks().join(format!("{key}.lock"))
        }
        Some(path) => path.with_extension("lock"),
    }
}

/// One resolution; each suite's indexes are fetched once.
struct Resolver<'a> {
    architecture: Architecture,
    directories: &'a Directories,
    progress: &'a dyn Progress,
    suites: BTreeMap<String, Apt>,
}

impl Resolver<'_> {
    fn resolve(mut self) -> Result<Lock, LockingError> {
        let mut lock = Lock::default();
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in Component::names() {
            for (suite, packages) in Component::load(&name)?.packages {
                wanted.entry(suite).or_default().extend(packages);
            }
        }
        for name in Tool::names() {
            let tool = Tool::load(&name)?;
            let closure: BTreeSet<_> =
                self.suite(&tool.suite)?.closure(&tool.packages)?.into_iter().collect();
            wanted.entry(tool.suite).or_default().extend(closure.iter().cloned());
            lock.set_tool(&name, self.architecture.debian, closure);
        }
        for (component, configuration) in kernel::configurations()? {
            lock.set_kernel(&component, self.architecture.debian, configuration);
        }
        for (suite, packages) in wanted {
            let packages: Vec<_> = packages.into_iter().collect();
            let architecture = self.architecture.debian.to_owned();
            for candidate in self.suite(&suite)?.candidates(&packages)? {
                let (suite, architecture) = (suite.clone(), architecture.clone());
                let name = Name { suite, architecture, package: candidate.name.clone() };
                lock.set_pin(&name, pin(&name, candidate)?);
            }
        }
        Ok(lock)
    }

    fn suite(&mut self, suite: &str) -> Result<&Apt, LockingError> {
        if !self.suites.contains_key(suite) {
            let apt = Apt::open(&self.directories.apt(), suite, self.architecture.debian)?;
            let title = format!("packages: index of {suite}");
            Stage::run(self.progress, &title, || apt.update())?;
            self.suites.insert(suite.to_owned(), apt);
        }
        self.suites.get(suite).ok_or_else(|| LockError::Unlocked { package: suite.to_owned() }.into())
    }
}

fn pin(name: &Name, found: Candidate) -> Result<Pin, LockingError> {
    let Candidate { version, size, sha256, .. } = found;
    if !is_sha256(&sha256) {
        return Err(LockingError::NoHash { package: name.to_string() });
    }
    Ok(Pin { version, size, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_lock_names_everything_that_the_recipes_want() {
        let mut lock = Lock::parse(embedded::LOCK).unwrap();
        lock.is_own = true;
        for name in Component::names() {
            for package in Component::load(&name).unwrap().package_names("amd64") {
                lock.pin(&package).unwrap();
            }
        }
        for name in Tool::names() {
            assert!(!lock.tool(&name, "amd64").unwrap().is_empty(), "{name}");
        }
        for (component, configuration) in kernel::configurations().unwrap() {
            let locked = lock.check_kernel(&component, Architecture::host().unwrap().debian, &configuration);
            locked.unwrap_or_else(|error| panic!("{error}: linuxkit.lock has to have {configuration}"));
        }
    }

    #[test]
    fn what_apt_has_no_good_hash_of_is_not_locked() {
        let name = Name { suite: "forky".into(), architecture: "amd64".into(), package: "runc".into() };
        let candidate = |sha256: &str| Candidate {
            name: "runc".into(),
            version: "1".into(),
            size: 1,
            sha256: sha256.into(),
        };
        let error = pin(&name, candidate("")).unwrap_err().to_string();
        assert!(error.starts_with("apt names no SHA-256 of runc (amd64 of forky), "), "{error}");
        let hash = "0a".repeat(32);
        assert_eq!(pin(&name, candidate(&hash)).unwrap().sha256, hash);
    }

    #[test]
    fn a_lock_made_here_takes_the_embedded_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
        let embedded = effective(&Source::Embedded, &directories).unwrap();
        let path = place(&Source::Embedded, &directories);
        fs::create_dir_all(directories.locks()).unwrap();
        fs::write(&path, Lock::default().to_text().unwrap()).unwrap();
        assert_ne!(effective(&Source::Embedded, &directories).unwrap(), embedded);
        fs::write(&path, "version: [").unwrap();
        let error = effective(&Source::Embedded, &directories).unwrap_err().to_string();
        let expected =
            format!("the lock {} cannot be used; `mvm image lock` makes a new one", path.display());
        assert_eq!(error, expected);
    }

    #[test]
    fn a_file_without_a_lock_has_the_one_that_holds_for_the_embedded_definition() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
        let source = Source::from(dir.path().join("my.yml"));
        assert_eq!(effective(&source, &directories).unwrap(), Lock::parse(embedded::LOCK).unwrap());
        fs::create_dir_all(directories.locks()).unwrap();
        let made_here = place(&Source::Embedded, &directories);
        fs::write(made_here, Lock::default().to_text().unwrap()).unwrap();
        assert_eq!(effective(&source, &directories).unwrap(), Lock::default());
        fs::write(dir.path().join("my.lock"), embedded::LOCK).unwrap();
        let own = effective(&source, &directories).unwrap();
        let mut expected = Lock::parse(embedded::LOCK).unwrap();
        expected.is_own = true;
        assert_eq!(own, expected);
    }

    /// What the work of a test fails with.
    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error(transparent)]
        Locking(#[from] LockingError),
        #[error("cannot get the packages")]
        Packages(#[from] PackagesError),
    }

    fn work_that_lacks_a_package(source: &Source, directories: &Directories) -> Failed {
        let gone = |_: &Lock| Err(PackagesError::Gone { gone: vec!["git 1 is gone".into()] }.into());
        let progress = &crate::progress::Silent;
        with_pins::<(), Failed>(Pins::Exact, source, directories, progress, gone).unwrap_err()
    }

    #[test]
    fn the_command_that_makes_the_lock_anew_is_that_of_its_definition() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
        let error = work_that_lacks_a_package(&Source::Embedded, &directories);
        assert_eq!(error.to_string(), "a new lock is needed; run `mvm image lock`");
        let causes = [error.source().unwrap(), error.source().unwrap().source().unwrap()];
        assert_eq!(
            causes.map(ToString::to_string),
            [
                "cannot get the packages",
                "git 1 is gone; or set MVM_DEBIAN_MIRROR to a mirror that still has what is locked",
            ]
        );
        let error = work_that_lacks_a_package(&Source::from(PathBuf::from("dir/my.yml")), &directories);
        assert_eq!(error.to_string(), "a new lock is needed; run `mvm image lock dir/my.yml`");
    }

    #[test]
    fn a_lock_that_cannot_be_read_is_not_replaced_unasked() {
        let unusable = |source| LockingError::Unusable {
            path: "my.lock".into(),
            command: "mvm image lock my.yml".into(),
            source,
        };
        assert!(!is_gone(&unusable(LockError::Version(2))));
        assert!(!is_gone(&unusable(Lock::parse("version: [").unwrap_err())));
        let unlocked = LockError::Unlocked { package: "git".into() };
        assert!(is_gone(&Failed::Packages(unlocked.into())));
    }
}
