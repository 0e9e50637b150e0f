//! Which platforms really execute here: for each, a tiny program is run and has to repeat what it is told.
//!
//! Each program is `cat`: it reads its input, writes it back, and ends with it. While it waits for more, the kernel
//! says which program really executes it.

mod echo;
mod registrations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use protocol::agent::{Platform, PlatformsResponse};
use tokio::sync::{Mutex as AsyncMutex, watch};

use self::registrations::Registrations;
use crate::process::Children;
use crate::system::System;

/// Where the programs lie in the container of the binfmt step.
const DIRECTORY: &str = "selftest";

const PLATFORMS: [&str; 9] = [
    "linux/amd64",
    "linux/386",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/riscv64",
    "linux/ppc64le",
    "linux/s390x",
    "linux/loong64",
];

type Versions = BTreeMap<PathBuf, String>;

/// The last test, and where the programs are.
#[derive(Debug)]
pub(crate) struct Platforms {
    rootfs: Mutex<Option<PathBuf>>,
    registry: PathBuf,
    last: watch::Sender<Option<Tested>>,
    /// What each emulator calls its version. The root image never changes, so they are asked for once. Held by the test
    /// that runs.
    versions: AsyncMutex<Versions>,
}

/// A test of every platform that went to its end. One that is given up leaves nothing behind.
#[derive(Debug)]
struct Tested {
    response: PlatformsResponse,
    /// What was registered when it began.
    registered: Registrations,
    ended: Instant,
    /// No failure may have been the machine's load.
    is_certain: bool,
}

impl Default for Platforms {
    fn default() -> Self {
        Self {
            rootfs: Mutex::default(),
            registry: registrations::DIRECTORY.into(),
            last: watch::Sender::new(None),
            versions: AsyncMutex::default(),
        }
    }
}

impl Platforms {
    /// The container of the binfmt step holds the programs.
    pub(crate) fn tests_lie_below(&self, rootfs: &Path) {
        *self.rootfs.lock().unwrap_or_else(PoisonError::into_inner) = Some(rootfs.to_owned());
    }

    /// The last result, if it answers a question of that time.
    fn known(&self, asked: Instant, rerun: bool) -> Option<PlatformsResponse> {
        let last = self.last.borrow();
        let answers = |last: &&Tested| {
            // A test that ended only after the question is as good as a new one.
            let is_fresh = last.ended >= asked || (last.is_certain && !rerun);
            is_fresh && last.registered == Registrations::read(&self.registry)
        };
        last.as_ref().filter(answers).map(|last| last.response.clone())
    }

    async fn test(&self, children: &Children, versions: &mut Versions) -> PlatformsResponse {
        let registered = Registrations::read(&self.registry);
        let rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut is_certain = true;
        let mut response = PlatformsResponse::default();
        for name in PLATFORMS {
            let tested = test_one(children, rootfs.as_deref(), name, versions).await;
            is_certain &= !tested.as_ref().is_err_and(echo::Error::may_pass);
            response.platforms.push(tested.unwrap_or_else(|error| broken(name, &error)));
        }
        let tested = Tested { response: response.clone(), registered, ended: Instant::now(), is_certain };
        self.last.send_replace(Some(tested));
        response
    }
}

/// Beside the start of the services, at the lowest priority.
pub(crate) async fn run_at_boot(system: Arc<System>) {
    test(&system, &mut *system.platforms.versions.lock().await).await;
}

/// Which platforms execute now. Waits for the boot's own test, and tests again when `rerun` asks for it, when what is
/// registered has changed since the last test, and when load may have made that fail.
pub(crate) async fn ask(system: Arc<System>, rerun: bool) -> PlatformsResponse {
    let asked = Instant::now();
    // It only fails when the sender is gone, and that is held here.
    drop(system.platforms.last.subscribe().wait_for(Option::is_some).await);
    // One test at a time: they would only take each other's processor time.
    let mut versions = system.platforms.versions.lock().await;
    match system.platforms.known(asked, rerun) {
        Some(known) => known,
        None => test(&system, &mut versions).await,
    }
}

async fn test(system: &System, versions: &mut Versions) -> PlatformsResponse {
    let response = system.platforms.test(&system.children, versions).await;
    system.events.platforms(response.clone());
    response
}

async fn test_one(
    children: &Children,
    rootfs: Option<&Path>,
    name: &str,
    versions: &mut Versions,
) -> Result<Platform, echo::Error> {
    let rootfs = rootfs.ok_or(echo::Error::NoStep)?;
    let program = program_of(rootfs, name);
    let executor = echo::run(children, &program).await?;
    let mut platform = Platform { platform: name.to_owned(), works: true, ..Platform::default() };
    if executor != program {
        platform.emulator_version = version_of(children, &executor, versions).await;
        platform.emulator = inside(rootfs, &executor);
    }
    Ok(platform)
}

async fn version_of(children: &Children, emulator: &Path, versions: &mut Versions) -> String {
    if let Some(known) = versions.get(emulator) {
        return known.clone();
    }
    let version = echo::version(children, emulator).await;
    // One that did not answer in time may do so at the next test.
    if !version.is_empty() {
        versions.insert(emulator.to_owned(), version.clone());
    }
    version
}

fn program_of(rootfs: &Path, platform: &str) -> PathBuf {
    rootfs.join(DIRECTORY).join(platform.replace('/', "-"))
}

/// The path as the container has it, which is what people look for.
fn inside(rootfs: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(rootfs).map(|inside| Path::new("/").join(inside));
    inside.unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn broken(name: &str, error: &echo::Error) -> Platform {
    Platform { platform: name.to_owned(), reason: error.to_string(), ..Platform::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reaper_of_a_test;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn names_and_paths() {
        let rootfs = Path::new("/containers/onboot/020-binfmt/rootfs");
        assert_eq!(program_of(rootfs, "linux/arm/v7"), rootfs.join("selftest/linux-arm-v7"));
        assert_eq!(inside(rootfs, &rootfs.join("usr/bin/qemu-arm")), "/usr/bin/qemu-arm");
        assert_eq!(inside(rootfs, Path::new("/usr/bin/qemu-arm")), "/usr/bin/qemu-arm");
    }

    #[tokio::test]
    async fn without_a_binfmt_step_every_platform_says_why_it_is_not_known_to_work() {
        let system = Arc::new(System::default());
        run_at_boot(Arc::clone(&system)).await;
        let result = ask(system, false).await;
        assert_eq!(result.platforms.len(), 9);
        assert!(result.platforms.iter().all(|platform| !platform.works && !platform.reason.is_empty()));
    }

    /// An appliance with one test program, a script.
    struct Appliance {
        directory: tempfile::TempDir,
        system: Arc<System>,
    }

    impl Appliance {
        fn new(children: Children) -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir(directory.path().join("registry")).unwrap();
            std::fs::create_dir(directory.path().join("selftest")).unwrap();
            let platforms = Platforms { registry: directory.path().join("registry"), ..Platforms::default() };
            platforms.tests_lie_below(directory.path());
            let system = Arc::new(System { children, platforms, ..System::default() });
            Self { directory, system }
        }

        fn program(&self, script: &str) {
            let path = program_of(self.directory.path(), "linux/amd64");
            // Another file: the one before may be read by a shell.
            drop(std::fs::remove_file(&path));
            std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", self.directory.path().display()))
                .unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }

        fn change_registrations(&self) {
            std::fs::write(self.directory.path().join("registry/qemu"), "enabled").unwrap();
        }

        async fn works(&self, rerun: bool) -> bool {
            ask(Arc::clone(&self.system), rerun).await.platforms.iter().any(|platform| platform.works)
        }
    }

    #[tokio::test]
    async fn a_test_that_is_given_up_hides_no_change() {
        let (children, _turn) = reaper_of_a_test().await;
        let appliance = Appliance::new(children);
        appliance.program("exec cat");
        run_at_boot(Arc::clone(&appliance.system)).await;
        assert!(appliance.works(false).await);
        appliance.change_registrations();
        appliance.program("exec sleep 100");
        tokio::time::timeout(Duration::from_millis(50), appliance.works(true)).await.unwrap_err();
        appliance.program("exit 1");
        assert!(!appliance.works(false).await);
    }

    #[tokio::test]
    async fn a_change_during_the_test_of_the_boot_is_seen() {
        let (children, _turn) = reaper_of_a_test().await;
        let appliance = Appliance::new(children);
        appliance.program("touch started\nwhile ! test -e changed; do sleep 0.01; done\nexec cat");
        let change = async {
            while !appliance.directory.path().join("started").exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            appliance.change_registrations();
            appliance.program("exit 1");
            std::fs::write(appliance.directory.path().join("changed"), "").unwrap();
        };
        let (works, (), ()) =
            tokio::join!(appliance.works(false), run_at_boot(Arc::clone(&appliance.system)), change);
        assert!(!works);
    }

    #[tokio::test]
    async fn what_load_may_have_broken_is_tested_at_the_next_question() {
        let (children, _turn) = reaper_of_a_test().await;
        let appliance = Appliance::new(children);
        appliance.program("exec cat");
        let platforms = &appliance.system.platforms;
        let now = Instant::now();
        let last = |is_certain, ended| {
            let registered = Registrations::read(&platforms.registry);
            let response = PlatformsResponse::default();
            platforms.last.send_replace(Some(Tested { response, registered, ended, is_certain }));
        };
        last(true, now);
        assert!(!appliance.works(false).await, "the last result holds");
        assert!(appliance.works(true).await, "asked to test again");
        last(false, now + Duration::from_secs(60));
        assert!(!appliance.works(true).await, "it was tested after the question");
        last(false, now);
        assert!(appliance.works(false).await);
    }

    #[tokio::test]
    async fn a_version_that_did_not_come_is_asked_for_again() {
        let (children, _turn) = reaper_of_a_test().await;
        let mut versions = Versions::new();
        assert_eq!(version_of(&children, Path::new("/nonexistent"), &mut versions).await, "");
        assert!(versions.is_empty());
        assert_ne!(version_of(&children, Path::new("/bin/bash"), &mut versions).await, "");
        assert_eq!(versions.len(), 1);
    }
}
