//! Linux: resource limits, Landlock, and a seccomp filter for each class of threads.
//!
//! - [`limits`]: what the process may use.
//! - [`landlock`]: no file, no port, no process beside itself.
//! - [`rules`]: which calls a class of threads makes, and why; data, to be reviewed.
//! - [`filter`]: the rules as programs of the kernel's.
//! - [`trap`]: what is said of a call that is none of them.

mod filter;
mod landlock;
mod limits;
mod rule;
mod rules;
mod trap;

pub use self::filter::Confinement;
pub use self::rule::{Condition, Match, Rule};
pub use self::rules::rules;

use std::io;

use super::{Applied, Limits, Missing, SandboxError};

/// Confines the process for ever. Everything of the host's that it needs has to be open, and no other thread may run:
/// it would be left outside.
pub fn enter(limits: &Limits) -> Result<Applied, SandboxError> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| SandboxError::Privileges(errno.into()))?;
    limits::set(limits)?;
    let mut missing = landlock::restrict()?;
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

/// A backtrace opens the program's own file, which would end the process instead of the one thread that panicked.
fn say_panics_without_backtrace() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let text = format!("the thread {} {panic}\n", thread.name().unwrap_or("without a name"));
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    }));
}
