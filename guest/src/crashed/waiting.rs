//! The state in which QEMU waits for a signal that never comes, by what `/proc` tells of a thread.

use std::path::Path;

use rustix::process::Pid;

/// Signals whose default is not the end of a process (signal(7)).
const HARMLESS: u64 = set(&[
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
]);
/// Signals that stay out of a full set: the kernel does not let the first two be blocked, and C's libraries keep the
/// others for their threads (glibc 32 and 33, musl 34 as well).
const NEVER_BLOCKED: u64 = set(&[libc::SIGKILL, libc::SIGSTOP, 32, 33, 34]);

/// How far above the stack pointer the set lies that `die_with_signal` waits with, at most; 112 bytes in Debian's. The
/// set of a program that waits itself lies on QEMU's heap.
const FRAME: u64 = 4096;

/// The program that crashed, and the signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) program: String,
    pub(super) signal: i32,
}

impl Crash {
    /// What a process that an emulator runs has crashed with. Any of its threads may have; the others stand still.
    pub(super) fn of(proc: &Path, pid: Pid) -> Option<Self> {
        let threads = std::fs::read_dir(proc.join(format!("{}/task", pid.as_raw_pid()))).ok()?;
        threads.flatten().find_map(|thread| {
            // The shorter text first: there may be many threads.
            let call = text(&thread.path().join("syscall"));
            waits_with_set_on_stack(&call).then(|| Self::in_status(&text(&thread.path().join("status"))))?
        })
    }

    /// By proc_pid_status(5): a thread that sleeps, with everything blocked but one signal, whose default is the end.
    fn in_status(status: &str) -> Option<Self> {
        let set = |name| u64::from_str_radix(field(status, name)?, 16).ok();
        field(status, "State")?.starts_with('S').then_some(())?;
        let awaited = !(set("SigBlk")? | NEVER_BLOCKED);
        let is_deadly = awaited & (HARMLESS | set("SigIgn")? | set("SigCgt")?) == 0;
        (awaited.is_power_of_two() && is_deadly).then_some(())?;
        let signal = i32::try_from(awaited.trailing_zeros().checked_add(1)?).ok()?;
        Some(Self { program: field(status, "Name")?.to_owned(), signal })
    }
}

/// By proc_pid_syscall(5): the call's number, six arguments, stack pointer and program counter. The first argument of
/// sigsuspend is its set.
fn waits_with_set_on_stack(call: &str) -> bool {
    let mut words = call.split_whitespace();
    let is_sigsuspend = words.next().and_then(|number| number.parse().ok()) == Some(libc::SYS_rt_sigsuspend);
    let mut address = |index| u64::from_str_radix(words.nth(index)?.strip_prefix("0x")?, 16).ok();
    let (Some(set), Some(stack)) = (address(0), address(5)) else { return false };
    is_sigsuspend && set.checked_sub(stack).is_some_and(|distance| distance < FRAME)
}

/// A file of `/proc`; nothing where it cannot be read. The name of a program may be cut within a character.
pub(super) fn text(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

/// The value of a line `NAME:\tVALUE`. A process can put no line of its own before: the kernel escapes its name.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
}

/// As the kernel shows sets: the lowest bit is signal 1.
const fn set(signals: &[i32]) -> u64 {
    let (mut set, mut rest) = (0, signals);
    while let [signal, more @ ..] = rest {
        set |= 1_u64.unbounded_shl(signal.wrapping_sub(1).unsigned_abs());
        rest = more;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the guest's kernel told of the first process of a container.
    fn status(name: &str, [blocked, ignored, caught]: [&str; 3]) -> String {
        format!(
            "Name:\t{name}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t199\nNgid:\t0\nPid:\t199\nPPid:\t175\n\
             TracerPid:\t0\nNSpid:\t199\t1\nThreads:\t2\nSigQ:\t0/7988\nSigPnd:\t0000000000000000\n\
             ShdPnd:\t0000000000000000\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\nSeccomp:\t2\n"
        )
    }

    fn signal(sets: [&str; 3]) -> Option<i32> {
        Crash::in_status(&status("x", sets)).map(|crash| crash.signal)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_set_of_a_crash_lies_on_the_stack() {
        // What the guest's kernel told of Debian's qemu-aarch64 10.0.13: of the first thread of a crashed container, and of a
        // later one.
        const SEGV: &str = "130 0x7ffe7f753848 0x8 0x0 0x0 0x0 0x0 0x7ffe7f7537d8 0x7f6d3e27dfde\n";
        const WORKER: &str = "130 0x7fd4ae73cd38 0x8 0x0 0x0 0x0 0x0 0x7fd4ae73ccc8 0x7fd4afeb9fde\n";
        /// sigsuspend of the program itself, with a full set.
        const ITSELF: &str =
            "130 0x55558d9d3d78 0x8 0x0 0x0 0x7fff86dc5bd0 0x55558d9d6120 0x7fff86dc5b60 0x7f86cd46102a\n";
        const SLEEPS: &str = "230 0x0 0x0 0x7fff68173c90 0x7fff68173c90 0x7fff68173c80 0x55556fa8ef60 0x7fff68173c10 0x7fe70d2b802a\n";
        const FUTEX: &str = "202 0x7f6d3eb7d808 0x0 0xffffffff 0x0 0x0 0x0 0x7f6d3db85028 0x7f6d3e2b5729\n";
        assert!(waits_with_set_on_stack(SEGV) && waits_with_set_on_stack(WORKER));
        for other in
            [ITSELF, SLEEPS, FUTEX, "running\n", "-1 0x7ffe7f7537d8 0x7f6d3e27dfde\n", "", "130", "130 0x1\n"]
        {
            assert!(!waits_with_set_on_stack(other), "{other}");
        }
        // Below the stack pointer nothing is kept.
        assert!(!waits_with_set_on_stack("130 0x7ffe7f7537d0 0x8 0x0 0x0 0x0 0x0 0x7ffe7f7537d8 0x0\n"));
        assert!(!waits_with_set_on_stack(
            "130 0xffffffffffffffffff 0x8 0x0 0x0 0x0 0x0 0x7ffe7f7537d8 0x0\n"
        ));
    }

    #[test]
    fn a_crash_is_told_by_the_one_signal_that_is_not_blocked() {
        let segv = ["fffffffe7ffbfaff", "0000000080000000", "00000007000000dc"];
        let crash = Crash { program: "segv".to_owned(), signal: libc::SIGSEGV };
        assert_eq!(Crash::in_status(&status("segv", segv)), Some(crash));
        assert_eq!(signal(["fffffffe7ffbfedf", "0000000080000000", "00000007000004dc"]), Some(libc::SIGABRT));
        // The sigsuspend of a program with a full set: only the place of the set tells it from SIGABRT.
        assert_eq!(signal(["fffffffc7ffbfedf", "0000000080000000", "00000007000004dc"]), Some(libc::SIGABRT));
        // kill -SEGV of busybox's sh to itself.
        assert_eq!(signal(["fffffffe7ffbfaff", "0000000080000004", "00000007000100da"]), Some(libc::SIGSEGV));
        // An emulator with musl, whose full set has another hole.
        assert_eq!(signal(["fffffffc7ffbfaff", "0000000080000000", "00000007000000dc"]), Some(libc::SIGSEGV));
    }

    #[test]
    fn who_waits_for_anything_else_is_left_alone() {
        let (ignored, caught) = ("0000000080000000", "00000007000004dc");
        for (sets, who) in [
            (["0000000000000000", ignored, caught], "it blocks nothing, like sleep and a shell that waits"),
            (["fffffffe7ffbfa77", ignored, caught], "QEMU's own thread, with four signals"),
            (["fffffffc7ffbfede", ignored, caught], "a program's sigsuspend with all but SIGHUP"),
            (["fffffffe7ffbfaff", ignored, caught], "one with a handler for it"),
            (["fffffffe7ffbfaff", "0000000080000400", "0"], "one that ignores it"),
            (["fffffffe7ffafeff", ignored, "0"], "SIGCHLD, which ends nobody"),
            (["ffffffffffffffff", ignored, "0"], "no signal at all"),
            (["", ignored, "0"], "no set"),
            (["fffffffe7ffbfaff", "x", "0"], "a set that is none"),
            (["fffffffffffffffe7ffbfaff", ignored, "0"], "a set that is too large"),
        ] {
            assert_eq!(signal(sets), None, "{who}");
        }
    }

    #[test]
    fn a_thread_that_does_not_sleep_waits_for_nothing() {
        let text = status("x", ["fffffffe7ffbfaff", "0", "0"]);
        assert!(Crash::in_status(&text).is_some());
        for state in ["R (running)", "D (disk sleep)", "T (stopped)", "t (tracing stop)", "Z (zombie)", ""] {
            let other = text.replace("S (sleeping)", state);
            assert_eq!(Crash::in_status(&other), None, "{state}");
        }
        assert_eq!(Crash::in_status(""), None);
    }

    #[test]
    fn a_name_makes_no_field_of_its_own() {
        // As the kernel writes a newline in a name.
        let text = status("x\\nSigBlk:\tfffffffe7ffbfaff", ["0", "0", "0"]);
        assert_eq!(Crash::in_status(&text), None);
    }
}
