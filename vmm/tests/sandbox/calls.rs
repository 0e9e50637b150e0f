//! Each call of the tables with arguments that do no harm, and with some that are refused.

use libc::{c_int, c_long};
use vmm::sandbox::{Class, Match, Rule};

pub(crate) type Arguments = [c_long; 6];

/// A descriptor that none is.
const NONE: c_long = -1;
/// Nothing is mapped there.
const NULL: c_long = 0;
const OWN: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const DATA: c_int = libc::PROT_READ | libc::PROT_WRITE;
const CODE: c_int = libc::PROT_READ | libc::PROT_EXEC;
const KVM_CREATE_VCPU: c_long = 0xae41;
const KVM_SET_USER_MEMORY_REGION: c_long = 0x4020_ae46;

/// What a futex's word is: others may look at it.
static WORD: u32 = 0;

/// Calls by its number.
pub(crate) fn make(number: c_long, arguments: Arguments) -> c_long {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the arguments of this file fail, or change nothing that is used.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// Arguments that the rule allows: harmless ones, with what its conditions ask for.
pub(crate) fn allowed(rule: &Rule) -> Arguments {
    let mut arguments = harmless(rule.name);
    for condition in rule.conditions {
        let argument = &mut arguments[usize::from(condition.argument)];
        match condition.matches {
            Match::Is(value) => *argument = value.into(),
            Match::IsThisProcess => *argument = std::process::id().into(),
            Match::Within(bits) => assert_eq!(*argument & !bits.cast_signed(), 0, "{}", rule.name),
            Match::IsBeside(ignored, value) => {
                *argument = (*argument & ignored.cast_signed()) | value.cast_signed();
            }
        }
    }
    arguments
}

fn harmless(call: &str) -> Arguments {
    match call {
        "mmap" => [NULL, 4096, DATA.into(), OWN.into(), NONE, 0],
        // The word is 0 and not 1, so nobody waits; and nobody waits to be woken.
        "futex" => [(&raw const WORD) as c_long, libc::FUTEX_PRIVATE_FLAG.into(), 1, NULL, NULL, 1],
        "write" | "close" | "fcntl" | "ioctl" | "epoll_pwait" | "epoll_ctl" | "read" | "preadv"
        | "pwritev" | "fdatasync" | "fallocate" | "pwrite64" | "recvfrom" | "pread64" | "ftruncate"
        | "sendto" | "timerfd_settime" | "accept4" | "getsockopt" | "shutdown" | "recvmsg" | "sendmsg"
        | "io_uring_enter" => [NONE, 0, NULL, 0, 0, 0],
        "brk" | "mremap" | "munmap" | "madvise" | "sched_yield" | "clock_gettime" | "rt_sigprocmask"
        | "sigaltstack" | "getpid" | "tgkill" | "getrandom" => [0; 6],
        other => panic!("give {other} arguments here, so that it is tested"),
    }
}

/// Arguments that no rule of the class allows for the call; none where every argument is allowed.
pub(crate) fn refused(class: Class, call: &str) -> Vec<Arguments> {
    let of = |argument: usize, values: &[c_long]| -> Vec<Arguments> {
        let with = |value: &c_long| {
            let mut arguments = harmless(call);
            arguments[argument] = *value;
            arguments
        };
        values.iter().map(with).collect()
    };
    match call {
        "mmap" => {
            let flags = [libc::MAP_SHARED | libc::MAP_ANONYMOUS, libc::MAP_PRIVATE, OWN | libc::MAP_FIXED];
            [of(2, &[CODE.into(), (DATA | CODE).into(), 1 << 40]), of(3, &flags.map(c_long::from))].concat()
        }
        "mremap" => of(3, &[0, (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).into()]),
        "madvise" => of(2, &[libc::MADV_REMOVE.into(), libc::MADV_DONTFORK.into()]),
        "futex" => of(1, &[libc::FUTEX_REQUEUE.into(), libc::FUTEX_LOCK_PI.into(), libc::FUTEX_FD.into()]),
        "fcntl" => of(1, &[libc::F_DUPFD.into(), libc::F_SETFL.into(), libc::F_SETOWN.into()]),
        "ioctl" => {
            let terminal = c_long::try_from(libc::TIOCSTI).unwrap();
            of(1, &[terminal, KVM_CREATE_VCPU, KVM_SET_USER_MEMORY_REGION])
        }
        "tgkill" => {
            let own = std::process::id().into();
            let kick = libc::SIGRTMIN().into();
            let of_others = [[1, 0, kick, 0, 0, 0], [0, 0, kick, 0, 0, 0]];
            [[own, 0, libc::SIGKILL.into(), 0, 0, 0], [own, 0, libc::SIGSYS.into(), 0, 0, 0]]
                .into_iter()
                .chain(of_others)
                .collect()
        }
        "epoll_pwait" => of(4, &[(&raw const WORD) as c_long]),
        "io_uring_enter" => {
            // vCPUs only wait for what a ring was given.
            let requests: &[c_long] = if class == Class::Vcpu { &[1] } else { &[] };
            [of(1, requests), of(3, &[2, 8, 16]), of(4, &[(&raw const WORD) as c_long])].concat()
        }
        "epoll_ctl" => of(1, &[libc::EPOLL_CTL_ADD.into(), libc::EPOLL_CTL_DEL.into()]),
        "sendto" | "recvfrom" => of(4, &[(&raw const WORD) as c_long]),
        "getsockopt" => [
            of(1, &[libc::SOL_TCP.into(), libc::SOL_PACKET.into()]),
            of(2, &[libc::SO_PEERCRED.into(), libc::SO_PEERGROUPS.into()]),
        ]
        .concat(),
        "fallocate" => of(1, &[0, libc::FALLOC_FL_PUNCH_HOLE.into(), libc::FALLOC_FL_COLLAPSE_RANGE.into()]),
        _ => Vec::new(),
    }
}
