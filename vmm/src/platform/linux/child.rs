//! A child that dies with its parent.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

/// Makes the child of `command` keep `descriptors` open and be killed when the thread that starts it ends.
pub(crate) fn inherit_and_follow_parent(command: &mut Command, descriptors: Vec<RawFd>) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the line above.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for &descriptor in &descriptors {
            // SAFETY: the caller keeps the descriptors open until the child has been started, and this process is
            // a copy of it.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: nothing allocates, locks or panics.
    unsafe { command.pre_exec(prepare) };
}
