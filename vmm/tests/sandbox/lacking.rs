//! Hosts that lack a part of it: the machine runs all the same, and it is said.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use vmm::devices::blk::Disk;
use vmm::ring;
use vmm::sandbox::{Class, Limits, Missing};

use crate::calls::make;
use crate::child::{enter_with, start};

#[test]
fn what_the_host_lacks_is_told_and_the_rest_is_in_force() {
    for order in ["lacking-landlock", "lacking-off", "lacking-both", "lacking-rings"] {
        start(order).well();
    }
}

pub(crate) fn landlock() {
    answer(&[libc::SYS_landlock_create_ruleset], libc::ENOSYS);
    let (confinement, missing) = enter_with(&Limits::of_machine(8 << 20, 1));
    assert_eq!(missing, [Missing::Landlock]);
    assert!(missing[0].to_string().contains("Linux 5.13 and newer have it"));
    confinement.confine(Class::Vcpu).unwrap();
}

pub(crate) fn off() {
    answer(&[libc::SYS_landlock_create_ruleset], libc::EOPNOTSUPP);
    let (_, missing) = enter_with(&Limits::of_machine(8 << 20, 1));
    assert_eq!(missing, [Missing::LandlockIsOff]);
}

pub(crate) fn both() {
    answer(&[libc::SYS_landlock_create_ruleset, libc::SYS_seccomp], libc::ENOSYS);
    let (confinement, missing) = enter_with(&Limits::of_machine(8 << 20, 1));
    assert_eq!(missing, [Missing::Landlock, Missing::Seccomp]);
    confinement.confine(Class::Vcpu).unwrap();
    // No filter is there.
    assert!(make(libc::SYS_getppid, [0; 6]) > 0);
}

pub(crate) fn rings() {
    ring::try_out().unwrap_or_else(|why| eprintln!("{why}, and will not be there below either"));
    let file = tempfile::NamedTempFile::new().unwrap();
    for (error, said) in [(libc::EPERM, "kernel.io_uring_disabled"), (libc::ENOSYS, "Linux 5.10 and newer")] {
        answer(&[libc::SYS_io_uring_setup], error);
        let disk = Disk::open(file.path(), false).unwrap();
        let why = disk.lacks().expect("it lacks a ring").to_string();
        assert!(why.contains(said) && why.contains("a disk does one request after the other"), "{why}");
        assert_eq!(ring::try_out().unwrap_err().to_string(), why);
    }
}

/// Makes calls fail as a kernel without them would.
pub(crate) fn answer(calls: &[i64], error: i32) {
    let calls: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let fail = SeccompAction::Errno(error.cast_unsigned());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, fail, TargetArch::x86_64).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}
