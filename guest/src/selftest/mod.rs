//! Which platforms really execute here: for each, a tiny program is run and has to repeat what it is told.
//!
//! Each program is `cat`: it reads its input, writes it back, and ends with it. While it waits for more, the kernel
//! says which program really executes it.

mod echo;
mod registrations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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

/// The last result, and where the programs are.
#[derive(Debug)]
pub(crate) struct Platforms {
    rootfs: Mutex<Option<PathBuf>>,
    result: watch::Sender<Option<PlatformsResponse>>,
    /// What was registered when the last test began.
    registered: Mutex<Registrations>,
    /// What each emulator calls its version. The root image never changes, so they are asked for once. Held by the test
    /// that runs.
    versions: AsyncMutex<BTreeMap<PathBuf, String>>,
}

impl Default for Platforms {
    fn default() -> Self {
        Self {
            rootfs: Mutex::default(),
            result: watch::Sender::new(None),
            registered: Mutex::default(),
            versions: AsyncMutex::default(),
        }
    }
}

impl Platforms {
    /// The container of the binfmt step holds the programs.
    pub(crate) fn tests_lie_below(&self, rootfs: &Path) {
        *self.rootfs.lock().unwrap_or_else(PoisonError::into_inner) = Some(rootfs.to_owned());
    }

    /// Whether a test has ended.
    pub(crate) fn are_known(&self) -> bool {
        self.result.borrow().is_some()
    }

    /// Whether what is registered is what the last test found.
    pub(crate) fn are_current(&self) -> bool {
        let now = Registrations::read(Path::new(registrations::DIRECTORY));
        *self.registered.lock().unwrap_or_else(PoisonError::into_inner) == now
    }

    /// The last result, once there is one.
    pub(crate) async fn result(&self) -> PlatformsResponse {
        let mut result = self.result.subscribe();
        // It only fails when the sender is gone, and that is held here.
        let Ok(known) = result.wait_for(Option::is_some).await else { return PlatformsResponse::default() };
        known.clone().unwrap_or_default()
    }

    /// Tests every platform now. One test at a time: they would only take each other's processor time.
    pub(crate) async fn test(&self, children: &Children) -> PlatformsResponse {
        let mut versions = self.versions.lock().await;
        *self.registered.lock().unwrap_or_else(PoisonError::into_inner) =
            Registrations::read(Path::new(registrations::DIRECTORY));
        let rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = match rootfs {
            Some(rootfs) => test_all(children, &rootfs, &mut versions).await,
            None => PlatformsResponse { platforms: PLATFORMS.iter().map(|name| untested(name)).collect() },
        };
        self.result.send_replace(Some(response.clone()));
        response
    }
}

/// Beside the start of the services, at the lowest priority.
pub(crate) async fn run_at_boot(system: Arc<System>) {
    let result = system.platforms.test(&system.children).await;
    system.events.platforms(result);
}

async fn test_all(
    children: &Children,
    rootfs: &Path,
    versions: &mut BTreeMap<PathBuf, String>,
) -> PlatformsResponse {
    let mut platforms = Vec::with_capacity(PLATFORMS.len());
    for name in PLATFORMS {
        platforms.push(test_one(children, rootfs, name, versions).await);
    }
    PlatformsResponse { platforms }
}

async fn test_one(
    children: &Children,
    rootfs: &Path,
    name: &str,
    versions: &mut BTreeMap<PathBuf, String>,
) -> Platform {
    let program = program_of(rootfs, name);
    let mut platform = Platform { platform: name.to_owned(), ..Platform::default() };
    match echo::run(children, &program).await {
        Err(error) => platform.reason = error.to_string(),
        Ok(executor) => {
            platform.works = true;
            if executor != program {
                if !versions.contains_key(&executor) {
                    versions.insert(executor.clone(), echo::version(children, &executor).await);
                }
                platform.emulator_version = versions.get(&executor).cloned().unwrap_or_default();
                platform.emulator = inside(rootfs, &executor);
            }
        }
    }
    platform
}

fn program_of(rootfs: &Path, platform: &str) -> PathBuf {
    rootfs.join(DIRECTORY).join(platform.replace('/', "-"))
}

/// The path as the container has it, which is what people look for.
fn inside(rootfs: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(rootfs).map(|inside| Path::new("/").join(inside));
    inside.unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn untested(name: &str) -> Platform {
    Platform {
        platform: name.to_owned(),
        reason: "the appliance has no binfmt step, so it has no test program for it".to_owned(),
        ..Platform::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let rootfs = Path::new("/containers/onboot/020-binfmt/rootfs");
        assert_eq!(program_of(rootfs, "linux/arm/v7"), rootfs.join("selftest/linux-arm-v7"));
        assert_eq!(inside(rootfs, &rootfs.join("usr/bin/qemu-arm")), "/usr/bin/qemu-arm");
        assert_eq!(inside(rootfs, Path::new("/usr/bin/qemu-arm")), "/usr/bin/qemu-arm");
    }

    #[tokio::test]
    async fn without_a_binfmt_step_every_platform_says_why_it_is_not_known_to_work() {
        let platforms = Platforms::default();
        let result = platforms.test(&Children::default()).await;
        assert_eq!(result.platforms.len(), 9);
        assert!(result.platforms.iter().all(|platform| !platform.works && !platform.reason.is_empty()));
        assert_eq!(platforms.result().await, result);
    }
}
