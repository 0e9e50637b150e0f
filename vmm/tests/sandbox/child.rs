//! This program once more, as a process that may be confined and killed.

use std::process::Command;

use vmm::sandbox::{self, Class, Confinement, Limits, Missing};

/// What the child is to do.
pub(crate) const ORDER: &str = "MVM_TEST_SANDBOX_CHILD";

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None where a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) said: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn well(&self) {
        assert_eq!(self.status, Some(0), "{}", self.said);
    }

    /// It made this call, and that ended it.
    #[track_caller]
    pub(crate) fn killed(&self, class: Class, number: i64) {
        let expected = format!("mvm: killed: a {} thread made the system call {number}", class.name());
        let line = self.said.lines().find(|line| line.starts_with(&expected));
        let line = line.unwrap_or_else(|| panic!("{expected} is not said: {self:?}"));
        assert!(line.ends_with(", which it never makes so; this is a bug of mvm, or an attack by the guest"));
        assert_eq!(self.status, Some(159));
        assert_eq!(sandbox::KILLED, 159, "as the documentation says");
    }
}

/// Starts it and waits for its end.
pub(crate) fn start(order: &str) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // A backtrace would open files.
    let output = command.env(ORDER, order).env("RUST_BACKTRACE", "full").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ended { status: output.status.code(), said }
}

/// In the child: enters the sandbox of a small machine.
pub(crate) fn enter() -> Confinement {
    enter_with(&Limits::of_machine(8 << 20, 2)).0
}

pub(crate) fn enter_with(limits: &Limits) -> (Confinement, Vec<Missing>) {
    let applied = sandbox::enter(limits).unwrap();
    (applied.confinement, applied.missing)
}

/// In the child: all is well. Without the harness, which would want to say so.
pub(crate) fn end() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

pub(crate) fn class(name: &str) -> Class {
    Class::ALL.into_iter().find(|class| class.name() == name).unwrap()
}
