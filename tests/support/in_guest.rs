//! Programs in the guest.

use super::{Instance, Running, eventually};

/// Whether a process with these arguments runs in the guest.
fn runs_in_guest(instance: &Instance, arguments: &str) -> bool {
    let script = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $file 2> /dev/null; echo; done";
    instance.mvm(&["exec", "sh", "-c", script]).ok().lines().any(|line| line.trim_end() == arguments)
}

/// Waits for a program.
#[track_caller]
pub fn until_it_runs_in(instance: &Instance, arguments: &str) {
    eventually("the program runs", 300, || {
        if runs_in_guest(instance, arguments) { Ok(()) } else { Err(format!("no {arguments} yet")) }
    });
}

/// Waits for a program of a build.
#[track_caller]
pub fn until_it_runs(build: &mut Running, instance: &Instance, arguments: &str) {
    eventually("the build's program runs", 300, || {
        assert!(build.is_running(), "the build has ended");
        if runs_in_guest(instance, arguments) { Ok(()) } else { Err(format!("no {arguments} yet")) }
    });
}

#[track_caller]
pub fn until_it_is_gone(instance: &Instance, arguments: &str) {
    eventually("the program is gone", 300, || {
        if runs_in_guest(instance, arguments) { Err(format!("{arguments} still runs")) } else { Ok(()) }
    });
}
