//! A guest that goes on until its power button is pressed.

use std::io;

use crate::Outcome;

/// What the kernel sends to PID 1 then (CONFIG_ACPI_TINY_POWER_BUTTON_SIGNAL).
const PRESSED: libc::c_int = 38;
/// Nanoseconds between two ticks.
const TICK: libc::c_long = 20_000_000;

/// Says how often it has ticked, and powers off when the button was pressed.
pub(super) fn tick_until_pressed() -> Outcome<()> {
    // SAFETY: a set of signals is plain data; with all bits zero it is empty.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the call changes nothing but the set.
    unsafe { libc::sigaddset(&raw mut signals, PRESSED) };
    // SAFETY: the call reads the set. There is no other thread.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()) };
    let tick = libc::timespec { tv_sec: 0, tv_nsec: TICK };
    for number in 0_u64.. {
        println!("rig: tick={number}");
        // SAFETY: the call reads the set and the time, and writes nothing.
        let taken = unsafe { libc::sigtimedwait(&raw const signals, std::ptr::null_mut(), &raw const tick) };
        if taken == PRESSED {
            break;
        }
        let error = io::Error::last_os_error();
        if taken < 0 && !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
            return Err(error.into());
        }
    }
    println!("rig: pressed");
    Ok(())
}
