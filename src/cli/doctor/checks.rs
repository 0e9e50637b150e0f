//! The checks themselves. Each says what it found and, where that is not good, what to do.

use std::path::Path;

use images::{DEFAULT_REFERENCE, LayoutError, Store, StoreError};
use vmm::engine::tcg::{TcgError, Version};
use vmm::hypervisor::probe::{self, Unusable, Usable};
use vmm::platform::memory_bytes;
use vmm::ring::{self, NoRing};
use vmm::sandbox::{self, Missing, SandboxError};

use crate::chain::Chain;
use crate::cli::{Context, appliance};
use crate::instance::{Home, runtime_dir};
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
    let kvm = kvm(probe::probe());
    // Machines on KVM make use of io_uring; QEMU has its own ways.
    let disks =
        if kvm.verdict == Verdict::Fine { io_uring(ring::try_out()) } else { qemu(programs::host_qemu()) };
    vec![
        host(requirements::check()),
        kvm,
        disks,
        network(),
        sandbox(sandbox::missing()),
        memory(memory_bytes()),
        disk(least_room(&context.home)),
        runtime(context.home.check()),
        appliance(context),
    ]
}

fn check(name: &'static str, verdict: Verdict, words: impl Into<String>) -> Check {
    Check { name, verdict, words: words.into() }
}

/// Kind of host, and namespaces, of which kernel and network need some.
fn host(found: Result<(), requirements::Lack>) -> Check {
    let host = format!("{} on {}, with user namespaces", std::env::consts::OS, std::env::consts::ARCH);
    let fine = |()| check("host", Verdict::Fine, host);
    found.map_or_else(|error| check("host", Verdict::Fails, error.to_string()), fine)
}

fn kvm(tried: Result<Usable, Unusable>) -> Check {
    match tried {
        Ok(usable) => {
            let words = format!("guest code runs, in {} times the host's own time", usable.times.max(1));
            check("kvm", Verdict::Fine, words)
        }
        Err(error) => {
            let words = format!("{error}; machines run on --accel tcg, several times slower");
            check("kvm", Verdict::Slow, words)
        }
    }
}

fn io_uring(tried: Result<(), NoRing>) -> Check {
    let fine = |()| check("io_uring", Verdict::Fine, "a disk does many requests at a time");
    tried.map_or_else(|why| check("io_uring", Verdict::Slow, why.to_string()), fine)
}

fn qemu(found: Result<Version, TcgError>) -> Check {
    let words = match found {
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

fn sandbox(missing: Result<Vec<Missing>, SandboxError>) -> Check {
    match missing {
        Ok(missing) if missing.is_empty() => {
            check("sandbox", Verdict::Fine, "Landlock and seccomp, all that mvm knows of")
        }
        Ok(missing) => {
            let all: Vec<String> = missing.iter().map(ToString::to_string).collect();
            check("sandbox", Verdict::Weak, all.join("; "))
        }
        Err(error) => {
            let words =
                format!("{}; run mvm outside of a container or a filter that forbids it", Chain(&error));
            check("sandbox", Verdict::Fails, words)
        }
    }
}

fn memory(has: u64) -> Check {
    let words = format!("{} of memory", gib(has));
    if has >= MEMORY {
        return check("memory", Verdict::Fine, words);
    }
    check(
        "memory",
        Verdict::Fails,
        format!("{words}; a machine needs {} of it: use a host that has more", gib(MEMORY)),
    )
}

/// How much room there is where there is least.
fn least_room(home: &Home) -> Option<(u64, &Path)> {
    let places = [&home.data, &home.state, &home.cache];
    places.into_iter().filter_map(|place| Some((free_bytes(place)?, place.as_path()))).min()
}

fn disk(least: Option<(u64, &Path)>) -> Check {
    let Some((free, place)) = least else {
        let words = "cannot tell how much room there is for appliances and disks; set XDG_DATA_HOME, XDG_STATE_HOME and \
                     XDG_CACHE_HOME to directories that you may write to";
        return check("disk", Verdict::Fails, words);
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

fn runtime(found: Result<(), runtime_dir::Error>) -> Check {
    let fine = |()| check("sockets", Verdict::Fine, "their directory is yours alone");
    found.map_or_else(|error| check("sockets", Verdict::Fails, error.to_string()), fine)
}

fn appliance(context: &Context) -> Check {
    let directories = appliance::directories(context);
    let found = Store::open(&directories.images()).and_then(|store| store.find(DEFAULT_REFERENCE));
    match found {
        Ok(Some(made)) => check("appliance", Verdict::Fine, format!("made: {}", made.digest)),
        Ok(None) => check("appliance", Verdict::Fine, appliance::estimate(&directories)),
        Err(error) => no_store(&error),
    }
}

fn no_store(error: &StoreError) -> Check {
    let mut words = Chain(error).to_string();
    if let StoreError::Layout(LayoutError::Io { .. }) = error {
        words += "; make it yours to write to, or set XDG_DATA_HOME to a directory that is";
    }
    check("appliance", Verdict::Fails, words)
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, (bytes % GIB) * 10 / GIB)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use images::tools::IsolationError;

    use super::*;

    /// It stands behind what is wrong.
    #[track_caller]
    fn assert_remedy(check: &Check, remedy: &str) {
        assert_ne!(check.verdict, Verdict::Fine, "{check:?}");
        let (_, behind) = check.words.split_once("; ").unwrap_or_else(|| panic!("no remedy: {check:?}"));
        assert!(behind.contains(remedy), "{check:?}");
    }

    fn denied() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    #[test]
    fn a_machine_that_is_slower_than_it_could_be_comes_with_a_remedy() {
        let failed = vmm::hypervisor::Error { doing: "create a machine", source: denied() };
        for (why, remedy) in [
            (Unusable::Missing, "load the module kvm_intel or kvm_amd"),
            (Unusable::Forbidden, "add yourself to the group kvm"),
            (Unusable::Emulated, "switch nested virtualization on"),
            (Unusable::Slow { times: 20 }, "switch nested virtualization on"),
            (Unusable::Faulted, "update the kernel"),
            (Unusable::Stuck(Duration::from_secs(30)), "update the kernel"),
            (Unusable::Unserved, "use such a host"),
            (Unusable::Failed(failed), "end what else uses it"),
            (Unusable::Scratch(denied()), "raise your limits"),
        ] {
            assert_remedy(&kvm(Err(why)), remedy);
        }
        for (why, remedy) in [
            (NoRing::Elsewhere, "Linux has it"),
            (NoRing::Unknown, "Linux 5.10 and newer have it"),
            (NoRing::Forbidden, "set kernel.io_uring_disabled to 0"),
            (NoRing::Failed(denied()), "raise your limits"),
        ] {
            assert_remedy(&io_uring(Err(why)), remedy);
        }
    }

    #[test]
    fn a_weaker_sandbox_comes_with_a_remedy() {
        for (missing, remedy) in [
            (Missing::Everything, "Linux on x86_64 has one"),
            (Missing::Landlock, "Linux 5.13 and newer have it"),
            (Missing::LandlockIsOff, "add landlock to its argument lsm="),
            (Missing::LandlockFiles, "Linux 6.10 does"),
            (Missing::LandlockNetwork, "Linux 6.7 does"),
            (Missing::LandlockScopes, "Linux 6.12 does"),
            (Missing::Seccomp, "one with CONFIG_SECCOMP_FILTER has them"),
        ] {
            let check = sandbox(Ok(vec![missing]));
            assert_eq!(check.verdict, Verdict::Weak);
            assert_remedy(&check, remedy);
        }
        let failed = sandbox(Err(SandboxError::Trial(denied())));
        assert!(failed.words.contains("permission denied"), "{failed:?}");
        assert_remedy(&failed, "run mvm outside of a container");
    }

    #[test]
    fn what_mvm_does_not_work_without_comes_with_a_remedy() {
        let refused = IsolationError::Refused { message: "no".into(), remedy: "do this".into() };
        let store = |action| LayoutError::Io { action, path: "/s".into(), source: denied() }.into();
        let malformed = StoreError::Incomplete { reference: "r".into(), layout: "/s".into(), part: "kernel" };
        let not_ours = runtime_dir::Error::NotOurs { path: "/r".into(), why: "no".into() };
        for (check, remedy) in [
            (host(Err(requirements::Lack::Architecture("arm".into()))), "use an x86_64 machine"),
            (host(Err(refused.into())), "do this"),
            (qemu(Err(TcgError::Host)), "run mvm on one"),
            (memory(MEMORY - 1), "use a host that has more"),
            (disk(Some((DISK - 1, Path::new("/d")))), "make room"),
            (disk(None), "set XDG_DATA_HOME"),
            (runtime(Err(not_ours)), "remove it, or set XDG_RUNTIME_DIR"),
            (no_store(&store("read")), "set XDG_DATA_HOME"),
            (no_store(&malformed), "delete /s and build it again"),
        ] {
            assert_eq!(check.verdict, Verdict::Fails);
            assert_remedy(&check, remedy);
        }
    }

    #[test]
    fn what_is_there_is_fine() {
        let version = Version { major: 10, minor: 0, patch: 13 };
        for check in [
            host(Ok(())),
            kvm(Ok(Usable { times: 1 })),
            io_uring(Ok(())),
            qemu(Ok(version)),
            qemu(Err(TcgError::NoCommand)),
            sandbox(Ok(vec![])),
            memory(MEMORY),
            disk(Some((DISK, Path::new("/d")))),
            runtime(Ok(())),
        ] {
            assert_eq!(check.verdict, Verdict::Fine, "{check:?}");
        }
    }

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
