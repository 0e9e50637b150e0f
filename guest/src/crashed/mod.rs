//! Ends emulated programs that crashed as the first process of their PID namespace, as `RUN /program` of a Dockerfile is.
//!
//! QEMU dies by the signal that its program crashed with: it resets the signal to its default, sends it to itself and
//! waits for it (`die_with_signal` in its linux-user/signal.c). A namespace's first process gets no signal that it has
//! no handler for (pid_namespaces(7)), so there QEMU waits for ever, and the build or container with it. SIGKILL from
//! outside the namespace is all that ends it.
//!
//! What it costs, every two seconds: a read of `/proc/loadavg`, a link for each namespace's first process, and for each of those
//! that are emulated the state of its threads. `/proc` is listed only where a process or a thread has started since the last
//! time, and of those that were there before nothing is read.

mod inits;
mod waiting;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::inits::Inits;
use self::waiting::Crash;
use crate::system::System;

const PROC: &str = "/proc";
const PERIOD: Duration = Duration::from_secs(2);

/// Looks for such processes and ends them, for ever.
pub(crate) async fn end_forever(system: Arc<System>) {
    let mut inits = Inits::default();
    loop {
        tokio::time::sleep(PERIOD).await;
        inits.update(Path::new(PROC));
        for pid in inits.emulated(Path::new(PROC)) {
            // One that cannot be ended has ended by itself.
            if let Ok(Some(Crash { program, signal })) = end(pid) {
                let pid = pid.as_raw_pid();
                system.logs.say(format!(
                    "ended process {pid} ({program:?}, emulated): it crashed with signal {signal} and would wait for ever"
                ));
            }
        }
    }
}

/// Ends it, if it has crashed.
fn end(pid: Pid) -> io::Result<Option<Crash>> {
    let Some(seen) = Crash::of(Path::new(PROC), pid) else { return Ok(None) };
    // Seen once more behind a descriptor: from then on the id cannot mean another process.
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let crash = Crash::of(Path::new(PROC), pid).filter(|crash| *crash == seen);
    if crash.is_some() {
        pidfd_send_signal(process, Signal::KILL)?;
    }
    Ok(crash)
}
