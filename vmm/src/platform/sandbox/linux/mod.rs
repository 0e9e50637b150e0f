//! Linux: resource limits, Landlock, and a seccomp filter for each class of threads.
//!
//! - [`limits`]: what the process may use.
//! - [`landlock`]: no file, no port, no process beside itself.
//! - [`rules`]: which calls a class of threads makes, and why; data, to be reviewed.
//! - [`program`]: the rules as programs of the kernel's.
//! - [`filter`]: the threads that put themselves under them.
//! - [`trap`]: what is said of a call that is none of them.

mod filter;
mod landlock;
mod limits;
mod program;
mod rule;
mod rules;
mod trap;

pub use self::filter::Confinement;
pub use self::rule::{Condition, Match, Rule};
pub use self::rules::rules;

use std::io;

use super::{Applied, Limits, Missing, SandboxError};

/// Confines the process for ever. Everything of the host's that it needs has to be open.
pub fn enter(limits: &Limits) -> Result<Applied, SandboxError> {
    refuse_other_threads()?;
    rustix::thread::set_no_new_privs(true).map_err(|errno| SandboxError::Privileges(errno.into()))?;
    limits::set(limits)?;
    let mut missing = landlock::restrict()?;
    allocate_in_one_place();
    say_panics_without_backtrace();
    let confinement = if filter::are_filters_known() {
        trap::install().map_err(SandboxError::Trap)?;
        Confinement::compile()?
    } else {
        missing.push(Missing::Seccomp);
        Confinement::default()
    };
    Ok(Applied { confinement, missing })
}

/// What of the sandbox this host does not have. It is tried out by a thread that ends right after: privileges and Landlock
/// are a thread's own.
pub fn missing() -> Result<Vec<Missing>, SandboxError> {
    let trial = crate::thread::named("trial").spawn(|| {
        rustix::thread::set_no_new_privs(true).map_err(|errno| SandboxError::Privileges(errno.into()))?;
        let mut missing = landlock::restrict()?;
        if !filter::are_filters_known() {
            missing.push(Missing::Seccomp);
        }
        Ok(missing)
    });
    let ended = trial.map_err(SandboxError::Trial)?.join();
    ended.unwrap_or_else(|_| Err(SandboxError::Trial(io::Error::other("it panicked"))))
}

/// A host without /proc is believed.
fn refuse_other_threads() -> Result<(), SandboxError> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(2..) => Err(SandboxError::Threads),
        _ => Ok(()),
    }
}

/// All threads share the heap of the first one. With heaps of their own glibc opens /proc/sys/vm/overcommit_memory before
/// it gives pages of one back, counts processors to know how many there may be, and changes protections of pages.
fn allocate_in_one_place() {
    // SAFETY: only sets a number; no other thread runs yet.
    let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } == 1;
    debug_assert!(is_set, "glibc knows the parameter since 2.10");
}

/// A backtrace opens the program's own file, which would end the process instead of the one thread that panicked.
fn say_panics_without_backtrace() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let text = format!("the thread {} {panic}\n", thread.name().unwrap_or("without a name"));
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    }));
}
