//! Getting a thread out of `KVM_RUN`.
//!
//! A signal ends the call, but one that comes just before the call would be lost. So its handler, which runs on the
//! vCPU's own thread, also sets `immediate_exit` (Documentation/virt/kvm/api.rst, 5): the next call then returns at once.

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, Once, PoisonError};

use libc::{c_int, c_void, pid_t, siginfo_t};

use crate::hypervisor::Kick;

thread_local! {
    /// The `immediate_exit` of the vCPU that this thread runs.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// The first real-time signal that the C library leaves to programs.
fn signal() -> c_int {
    libc::SIGRTMIN()
}

/// Kicks one vCPU.
#[derive(Debug, Clone)]
pub struct KvmKick {
    /// The vCPU's thread; none when the vCPU is gone, and the number may be another thread's.
    thread: Arc<Mutex<Option<pid_t>>>,
}

impl Kick for KvmKick {
    fn kick(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = *thread {
            let process = rustix::process::getpid().as_raw_nonzero().get();
            // SAFETY: sends a signal that has a handler to a thread of this process that cannot end meanwhile: its
            // vCPU would take the lock first.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        }
    }
}

/// On the vCPU's thread, for as long as the vCPU lives: makes kicks reach it.
#[derive(Debug)]
pub(super) struct Kicked {
    kick: KvmKick,
    immediate_exit: NonNull<u8>,
}

impl Kicked {
    /// # Safety
    /// `immediate_exit` has to stay valid until this value is dropped, on the thread that calls this.
    pub(super) unsafe fn new(immediate_exit: NonNull<u8>) -> Self {
        install_handler();
        IMMEDIATE_EXIT.set(immediate_exit.as_ptr());
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        Self { kick: KvmKick { thread: Arc::new(Mutex::new(Some(thread))) }, immediate_exit }
    }

    pub(super) fn kick(&self) -> KvmKick {
        self.kick.clone()
    }

    /// Takes back all kicks so far.
    pub(super) fn consume(&self) {
        // SAFETY: valid as long as this lives. Volatile, because the signal handler writes it on this very thread.
        unsafe { self.immediate_exit.as_ptr().write_volatile(0) };
    }
}

impl Drop for Kicked {
    fn drop(&mut self) {
        *self.kick.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

extern "C" fn on_kick(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: set and cleared by the vCPU of this thread, which is interrupted and so still there.
        unsafe { flag.write_volatile(1) };
    }
}

fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // The number is one that may have a handler, and the handler only touches a thread-local cell.
        if let Err(error) = vmm_sys_util::signal::register_signal_handler(signal(), on_kick) {
            let error = io::Error::from_raw_os_error(error.errno());
            tracing::error!(%error, "vCPUs cannot be interrupted");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_that_was_taken_ends_no_later_run() {
        // Firecracker #4388: `immediate_exit` was left set, and the next run ended for nothing.
        let mut flag = 0_u8;
        let place = NonNull::from(&mut flag);
        // SAFETY: it outlives what refers to it, on this thread.
        let kicked = unsafe { Kicked::new(place) };
        // SAFETY: as above. Volatile, as its writers are.
        let is_set = || unsafe { place.read_volatile() } == 1;
        let kick = kicked.kick();
        for _ in 0..2 {
            assert!(!is_set());
            kick.kick();
            kick.kick();
            assert!(is_set(), "the next run returns at once");
            kicked.consume();
        }
        drop(kicked);
        kick.kick();
        assert!(!is_set(), "the vCPU is gone");
    }
}
