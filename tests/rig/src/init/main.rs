//! PID 1 of the machine with KVM and of the guests of the VMM under test.
//!
//! `rig.do=` on the kernel's command line says what it does: `serve` runs jobs, everything else is what a guest does in
//! a test.

mod arguments;
mod guest;
mod serve;
mod system;

use std::process::ExitCode;

use arguments::Arguments;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The argument that `--` on the kernel's command line leaves: nothing but to say that the guest has come so far.
const UP: &str = "up";

/// Returning is the end of PID 1, and with that of the kernel: it panics.
fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some(UP) {
        return guest::say_that_it_is_up();
    }
    system::mount_kernels_own()?;
    let arguments = Arguments::of_this_kernel()?;
    match arguments.text("do")? {
        "serve" => serve::serve(),
        action => guest::act(action, &arguments),
    }
}
