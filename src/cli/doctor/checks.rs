//! The checks themselves. Each says what it found and, where that is not good, what to do.

use std::path::Path;

use images::{DEFAULT_REFERENCE, Store};
use vmm::engine::tcg::TcgError;
use vmm::hypervisor::probe;
use vmm::platform::memory_bytes;
use vmm::{ring, sandbox};

use crate::cli::{Context, appliance};
use crate::instance::Home;
use crate::supervisor::{programs, requirements};

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) words: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// mvm works, only slowly.
    Slow,
    /// mvm works, with less around the machine than it could have.
    Weak,
    Fails,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Slow => "slow",
            Self::Weak => "weak",
            Self::Fails => "fails",
        }
    }
}

const GIB: u64 = 1 << 30;
/// What the machine, and everything that is stored, need at least.
const MEMORY: u64 = 2 * GIB;
const DISK: u64 = 4 * GIB;

pub(super) fn all(context: &Context) -> Vec<Check> {
    let (kvm, has_kvm) = kvm();
    let mut checks = vec![host(), kvm];
    checks.push(if has_kvm { io_uring() } else { qemu() });
    checks.extend([network(), sandbox(), memory(), disk(&context.home), runtime(&context.home)]);
    checks.push(appliance(context));
    checks
}

fn check(name: &'static str, verdict: Verdict, words: impl Into<String>) -> Check {
    Check { name, verdict, words: words.into() }
}

/// Kind of host, and namespaces, of which kernel and network need some.
fn host() -> Check {
    let host = format!("{} on {}, with user namespaces", std::env::consts::OS, std::env::consts::ARCH);
    let fine = |()| check("host", Verdict::Fine, host);
    requirements::check().map_or_else(|error| check("host", Verdict::Fails, error.to_string()), fine)
}

fn kvm() -> (Check, bool) {
    match probe::probe() {
        Ok(usable) => {
            let words = format!("guest code runs, in {} times the host's own time", usable.times.max(1));
            (check("kvm", Verdict::Fine, words), true)
        }
        Err(error) => {
            let words = format!("{error}; machines run on --accel tcg, several times slower");
            (check("kvm", Verdict::Slow, words), false)
        }
    }
}

/// Of which machines on KVM make use; QEMU has its own ways.
fn io_uring() -> Check {
    let fine = |()| check("io_uring", Verdict::Fine, "a disk does many requests at a time");
    ring::try_out().map_or_else(|why| check("io_uring", Verdict::Slow, why.to_string()), fine)
}

fn qemu() -> Check {
    let words = match programs::host_qemu() {
        Ok(version) => format!("the host's, version {version}"),
        Err(error @ TcgError::Host) => return check("qemu", Verdict::Fails, error.to_string()),
        Err(TcgError::Spawn { .. }) => "the host has none; mvm unpacks its own at the first start".to_owned(),
        Err(why) => format!("{why}; mvm unpacks its own at the first start"),
    };
    check("qemu", Verdict::Fine, words)
}

fn network() -> Check {
    let words = programs::host_passt().map_or_else(
        |why| format!("{why}; mvm unpacks its own at the first start"),
        |()| "the host's passt".to_owned(),
    );
    check("network", Verdict::Fine, words)
}

fn sandbox() -> Check {
    match sandbox::missing() {
        Ok(missing) if missing.is_empty() => {
            check("sandbox", Verdict::Fine, "Landlock and seccomp, all that mvm knows of")
        }
        Ok(missing) => {
            let all: Vec<String> = missing.iter().map(ToString::to_string).collect();
            check("sandbox", Verdict::Weak, all.join("; "))
        }
        Err(error) => check("sandbox", Verdict::Fails, error.to_string()),
    }
}

fn memory() -> Check {
    let has = memory_bytes();
    let words = format!("{} of memory", gib(has));
    if has >= MEMORY {
        return check("memory", Verdict::Fine, words);
    }
    check("memory", Verdict::Fails, format!("{words}; a machine needs {} of it", gib(MEMORY)))
}

fn disk(home: &Home) -> Check {
    let places = [&home.data, &home.state, &home.cache];
    let mut least: Option<(u64, &Path)> = None;
    for place in places {
        let Some(free) = free_bytes(place) else { continue };
        if least.is_none_or(|(other, _)| free < other) {
            least = Some((free, place));
        }
    }
    let Some((free, place)) = least else {
        return check("disk", Verdict::Fails, "cannot tell how much room there is for appliances and disks");
    };
    let words = format!("{} free at {}", gib(free), place.display());
    if free >= DISK {
        return check("disk", Verdict::Fine, words);
    }
    check("disk", Verdict::Fails, format!("{words}; make room: appliance and data disk need {}", gib(DISK)))
}

/// Of the file system that the directory is on, or will be.
fn free_bytes(directory: &Path) -> Option<u64> {
    let existing = directory.ancestors().find(|place| place.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn runtime(home: &Home) -> Check {
    let fine = |()| check("sockets", Verdict::Fine, "their directory is yours alone");
    home.check().map_or_else(|error| check("sockets", Verdict::Fails, error.to_string()), fine)
}

fn appliance(context: &Context) -> Check {
    let directories = appliance::directories(context);
    let found = Store::open(&directories.images()).and_then(|store| store.find(DEFAULT_REFERENCE));
    match found {
        Ok(Some(made)) => check("appliance", Verdict::Fine, format!("made: {}", made.digest)),
        Ok(None) => check("appliance", Verdict::Fine, appliance::estimate(&directories)),
        Err(error) => check("appliance", Verdict::Fails, error.to_string()),
    }
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, (bytes % GIB) * 10 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(
            (gib(GIB * 3 / 2), gib(0), gib(GIB - 1)),
            ("1.5 GiB".into(), "0.0 GiB".into(), "0.9 GiB".into())
        );
    }

    #[test]
    fn room_is_that_of_the_place_where_a_directory_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let later = directory.path().join("not/yet/there");
        assert_eq!(free_bytes(&later).is_some(), free_bytes(directory.path()).is_some());
        assert!(free_bytes(&later).unwrap() > 0);
    }
}
