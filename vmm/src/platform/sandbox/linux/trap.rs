//! What is said of a forbidden call. The kernel raises SIGSYS in place of it; where that is held back, it ends the
//! process by itself.

use std::cell::Cell;
use std::io;

use libc::{c_int, c_long, c_uint, c_void, siginfo_t};

use super::rules;
use crate::platform::sandbox::{Class, KILLED};

thread_local! {
    /// Made at compile time, so that the handler only reads it.
    static CLASS: Cell<Option<Class>> = const { Cell::new(None) };
}

pub(super) fn set_class(class: Class) {
    CLASS.set(Some(class));
}

/// For the whole process; no filter allows that it is changed.
pub(super) fn install() -> io::Result<()> {
    vmm_sys_util::signal::register_signal_handler(libc::SIGSYS, on_forbidden_call)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// The part of `siginfo_t` that SIGSYS fills (sigaction(2), `_sigsys`).
#[repr(C)]
struct ForbiddenCall {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    instruction: *mut c_void,
    number: c_int,
    architecture: c_uint,
}

/// Everything here may be done in a signal handler: nothing allocates or locks.
extern "C" fn on_forbidden_call(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel hands over a whole `siginfo_t`, which is larger and as aligned; with SIGSYS it has these fields.
    let number = unsafe { (*info.cast::<ForbiddenCall>()).number };
    let mut line = Line::default();
    line.put(b"mvm: killed: a ");
    line.put(CLASS.get().map_or("", Class::name).as_bytes());
    line.put(b" thread made the system call ");
    line.put_number(number.unsigned_abs());
    if let Some(name) = name(number.into()) {
        line.put(b" (");
        line.put(name.as_bytes());
        line.put(b")");
    }
    line.put(b", which it never makes so; this is a bug of mvm, or an attack by the guest\n");
    // SAFETY: the bytes are the line's own.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.length) };
    // SAFETY: ends the process without a destructor, of which a stopped thread might be in the middle.
    unsafe { libc::_exit(KILLED.into()) };
}

/// Those that an attacker would try first, and those that other threads or other arguments have.
fn name(number: c_long) -> Option<&'static str> {
    const TRIED: [(c_long, &str); 16] = [
        (libc::SYS_open, "open"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_fork, "fork"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_kill, "kill"),
        (libc::SYS_ptrace, "ptrace"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_rt_sigaction, "rt_sigaction"),
        (libc::SYS_writev, "writev"),
        (libc::SYS_readv, "readv"),
        (libc::SYS_statx, "statx"),
        (libc::SYS_sendto, "sendto"),
    ];
    let known = Class::ALL.into_iter().flat_map(rules).map(|rule| (rule.number, rule.name));
    TRIED.into_iter().chain(known).find(|(call, _)| *call == number).map(|(_, name)| name)
}

/// A line of text on the stack; what does not fit is left out.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(text) {
            *to = *from;
            self.length = self.length.saturating_add(1);
        }
    }

    fn put_number(&mut self, number: u32) {
        const DIGITS: &[u8; 10] = b"0123456789";
        let mut power = 1_000_000_000;
        while power > number.max(1) {
            power /= 10;
        }
        while power > 0 {
            let digit = usize::try_from(number.checked_div(power).unwrap_or(0) % 10).unwrap_or(0);
            self.put(DIGITS.get(digit..=digit).unwrap_or_default());
            power /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_words_and_numbers_and_an_end() {
        let mut line = Line::default();
        for number in [0, 7, 10, 41, 435, u32::MAX] {
            line.put_number(number);
            line.put(b" ");
        }
        assert_eq!(&line.bytes[..line.length], b"0 7 10 41 435 4294967295 ");
        line.put(&[b'x'; 300]);
        assert_eq!(line.length, 256);
    }

    #[test]
    fn calls_are_named() {
        assert_eq!(name(libc::SYS_socket), Some("socket"));
        assert_eq!(name(libc::SYS_preadv), Some("preadv"));
        assert_eq!(name(9999), None);
    }
}
