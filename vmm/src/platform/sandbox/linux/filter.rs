//! Threads that put themselves under the program of their class.

use std::io;
use std::sync::Arc;

use libc::{sock_filter, sock_fprog};

use super::{program, rules, trap};
use crate::platform::sandbox::{Class, SandboxError};

/// Confines threads, once the process has entered its sandbox; that of [`Default`] confines none.
#[derive(Debug, Clone, Default)]
pub struct Confinement(Option<Arc<[(Class, Program)]>>);

/// A class's rules, as the kernel takes them.
struct Program(Vec<sock_filter>);

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program of {}", self.0.len())
    }
}

impl Confinement {
    pub(super) fn compile() -> Result<Self, SandboxError> {
        let program = |class: Class| {
            let failed =
                |why: program::TooLong| SandboxError::Compile { class: class.name(), why: why.to_string() };
            Ok((class, Program(program::compile(rules(class)).map_err(failed)?)))
        };
        Ok(Self(Some(Class::ALL.into_iter().map(program).collect::<Result<_, _>>()?)))
    }

    /// From now on the calling thread makes no other calls than those of its class; and neither would a thread that it
    /// started, for which there is no rule.
    pub fn confine(&self, class: Class) -> Result<(), SandboxError> {
        let programs = self.0.iter().flat_map(|programs| programs.iter());
        for (_, program) in programs.filter(|(of, _)| *of == class) {
            trap::set_class(class);
            apply(program).map_err(|source| SandboxError::Filter { class: class.name(), source })?;
        }
        Ok(())
    }
}

fn apply(program: &Program) -> io::Result<()> {
    let length = u16::try_from(program.0.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.0.as_ptr().cast_mut() };
    // SAFETY: the call reads the instructions, as many as it is told, and keeps a translation of its own.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this kernel has filters, with traps.
pub(super) fn are_filters_known() -> bool {
    let action = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads four bytes at the address, and changes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action))
    };
    result == 0
}
