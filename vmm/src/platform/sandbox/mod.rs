//! What keeps a machine's process to its machine, should its guest take it over: it opens nothing, starts nothing, and
//! makes only the system calls that it needs.
//!
//! [`enter`] is for the whole process, once everything is open and before there is another thread. What it returns goes
//! to each thread, which confines itself to the calls of its [`Class`].

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use linux::{Condition, Confinement, Match, Rule, enter, missing, rules};

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod none;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use none::{Confinement, enter, missing};

use std::io;

/// How a process ends whose thread made a call that it never makes: as a shell shows an end by SIGSYS.
pub const KILLED: u8 = 128 + 31;

/// What a thread does, and so which calls it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Follows the machine to its end.
    Main,
    Vcpu,
    /// Works on the devices that never wait.
    Devices,
    /// Works on one disk.
    Disk,
    /// Works on the network card.
    Network,
    /// Works on the vsock device, with the host's sockets.
    Vsock,
    /// Talks with the supervisor.
    Channel,
    /// Passes on what the guest prints.
    Console,
}

impl Class {
    pub const ALL: [Self; 8] = [
        Self::Main,
        Self::Vcpu,
        Self::Devices,
        Self::Disk,
        Self::Network,
        Self::Vsock,
        Self::Channel,
        Self::Console,
    ];

    /// As messages call its threads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vCPU",
            Self::Devices => "device",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Vsock => "vsock",
            Self::Channel => "channel",
            Self::Console => "console",
        }
    }
}

/// What the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of its own, the guest's included.
    pub data: u64,
    /// The highest number of open descriptors.
    pub descriptors: u64,
}

/// What the streams between host and guest may hold.
pub(crate) const STREAMS: u64 = 68 << 20;
/// Heap, stacks, and what disks' requests hold; and beside these the streams.
const ALLOWANCE: u64 = (96 << 20) + STREAMS;
/// A thread's stack, and what its allocations may reserve.
const ALLOWANCE_OF_CPU: u64 = 4 << 20;
/// Some hundred for the machine, and one for each stream that its guest may have to the host.
const DESCRIPTORS: u64 = 2048;

impl Limits {
    /// Those of a machine with so many bytes of memory and so many processors.
    #[must_use]
    pub fn of_machine(memory: u64, cpus: u8) -> Self {
        let own = ALLOWANCE.saturating_add(ALLOWANCE_OF_CPU.saturating_mul(cpus.into()));
        Self { data: memory.saturating_add(own), descriptors: DESCRIPTORS }
    }
}

/// What became of [`enter`].
#[derive(Debug)]
pub struct Applied {
    /// For each thread that starts from now on.
    pub confinement: Confinement,
    /// What this host does not have; the rest is in force.
    pub missing: Vec<Missing>,
}

/// What this host does not have, as a sentence for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("there is no sandbox for this kind of host; Linux on x86_64 has one")]
    Everything,
    #[error(
        "this kernel has no Landlock, which keeps files and sockets of the host shut; Linux 5.13 and newer have it"
    )]
    Landlock,
    #[error(
        "this kernel was started without Landlock, which keeps files and sockets of the host shut; add landlock to \
         its argument lsm="
    )]
    LandlockIsOff,
    #[error("this kernel's Landlock does not know every access to a file (truncate, ioctl); Linux 6.10 does")]
    LandlockFiles,
    #[error("this kernel's Landlock does not keep TCP shut; Linux 6.7 does")]
    LandlockNetwork,
    #[error("this kernel's Landlock does not keep signals and abstract sockets inside; Linux 6.12 does")]
    LandlockScopes,
    #[error(
        "this kernel has no seccomp filters, so threads may make any system call; one with CONFIG_SECCOMP_FILTER has them"
    )]
    Seccomp,
}

/// Why the process or one of its threads could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot confine a process that has other threads: they would be left outside")]
    Threads,
    #[error("cannot limit {what} of this process to {limit}")]
    Limit {
        what: &'static str,
        limit: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep this process from gaining privileges")]
    Privileges(#[source] io::Error),
    #[error("cannot shut this process's way to the host's files")]
    Landlock(#[source] io::Error),
    #[error("cannot try the sandbox out on a thread")]
    Trial(#[source] io::Error),
    #[error("cannot handle the signal of a forbidden system call")]
    Trap(#[source] io::Error),
    #[error("cannot compile the system calls of a {class} thread: {why}")]
    Compile { class: &'static str, why: String },
    #[error("cannot filter the system calls of a {class} thread")]
    Filter {
        class: &'static str,
        #[source]
        source: io::Error,
    },
}
