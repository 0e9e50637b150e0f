//! Which system calls each class of threads makes. A call that no table has, or with other arguments, ends the process.
//!
//! Both profiles have the same tables: what only a debug build does is said beside it. vmm/tests/sandbox executes each
//! rule, and whole machines under them.

mod channel;
mod common;
mod console;
mod devices;
mod disk;
mod main;
mod network;
mod vcpu;
mod vsock;

use super::rule::{Condition, Rule, argument};
use crate::platform::sandbox::Class;

/// What threads of a class may do.
pub fn rules(class: Class) -> impl Iterator<Item = &'static Rule> {
    let own = match class {
        Class::Main => main::RULES,
        Class::Vcpu => vcpu::RULES,
        Class::Devices => devices::RULES,
        Class::Disk => disk::RULES,
        Class::Network => network::RULES,
        Class::Vsock => vsock::RULES,
        Class::Channel => channel::RULES,
        Class::Console => console::RULES,
    };
    common::RULES.iter().chain(own)
}

/// An ioctl's number (include/uapi/asm-generic/ioctl.h): KVM's are of the type 0xae.
const KVM_RUN: u32 = 0xae80;
const KVM_IRQ_LINE: u32 = 0x4008_ae61;
/// Makes a descriptor nonblocking.
const FIONBIO: u32 = 0x5421;
/// Of epoll_pwait and io_uring_enter, that no set of signals is given.
const NO_SIGNALS: Condition = argument(4).within(0);
/// Of io_uring_enter, to wait for answers (IORING_ENTER_GETEVENTS): no other ring than that of the descriptor is named.
const WAITS: u64 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_class_has_few_calls_each_once_and_with_its_reason() {
        for class in Class::ALL {
            let calls: BTreeSet<_> = rules(class).map(|rule| rule.number).collect();
            assert!(calls.len() <= 45, "{class:?} has {}", calls.len());
            let different: BTreeSet<_> =
                rules(class).map(|rule| format!("{} {:?}", rule.name, rule.conditions)).collect();
            assert_eq!(different.len(), rules(class).count(), "{class:?} has a rule twice");
            for rule in rules(class) {
                assert!(rule.reason.len() > 10, "{} has no reason", rule.name);
                let is_free =
                    rules(class).any(|other| other.number == rule.number && other.conditions.is_empty());
                assert!(
                    !is_free || rule.conditions.is_empty(),
                    "{} of {class:?} is allowed anyway",
                    rule.name
                );
            }
        }
    }

    #[test]
    fn nothing_that_opens_starts_or_makes_code_is_in_any_table() {
        for class in Class::ALL {
            for rule in rules(class) {
                let never = [
                    "open",
                    "openat",
                    "openat2",
                    "creat",
                    "socket",
                    "socketpair",
                    "connect",
                    "bind",
                    "clone",
                    "clone3",
                    "fork",
                    "vfork",
                    "execve",
                    "execveat",
                    "ptrace",
                    "process_vm_writev",
                    "rt_sigaction",
                    "prctl",
                    "seccomp",
                    "bpf",
                    "io_uring_setup",
                    "io_uring_register",
                    "memfd_create",
                    "unlink",
                    "rename",
                ];
                assert!(!never.contains(&rule.name), "{class:?} has {}", rule.name);
                // Of listeners that the supervisor made, and nobody else.
                assert!(rule.name != "accept4" || class == Class::Vsock, "{class:?} accepts");
                if ["mmap", "mprotect", "ioctl", "fcntl", "madvise", "futex", "tgkill"].contains(&rule.name) {
                    assert!(!rule.conditions.is_empty(), "{} of {class:?} may do everything", rule.name);
                }
            }
        }
    }
}
