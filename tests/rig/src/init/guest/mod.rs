//! What a guest of the VMM under test does. Each line that a test reads begins with `rig: `.

mod button;
mod console;
mod disk;
mod echo;
#[cfg(target_arch = "x86_64")]
mod hostile;
mod machine;
mod memory;
mod network;

use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

use crate::Outcome;
use crate::arguments::Arguments;

/// Does it, and powers off; whether it went well is the last line.
pub(crate) fn act(action: &str, arguments: &Arguments) -> Outcome<()> {
    console::make_raw()?;
    println!("rig: on {}", machine::hypervisor());
    match perform(action, arguments) {
        Ok(()) => println!("rig: done"),
        Err(error) => println!("rig: failed: {error}"),
    }
    console::drain()?;
    Ok(reboot(RebootCommand::PowerOff)?)
}

/// The first thing that a process of the guest's does, for who counts what it takes to come here.
pub(crate) fn say_that_it_is_up() -> Outcome<()> {
    println!("rig: up");
    console::drain()?;
    Ok(reboot(RebootCommand::PowerOff)?)
}

fn perform(action: &str, arguments: &Arguments) -> Outcome<()> {
    match action {
        "nothing" => Ok(()),
        "describe" => machine::describe(),
        // PID 1 must not end.
        "panic" => std::process::abort(),
        "reset" => Ok(reboot(RebootCommand::Restart)?),
        "wait" => wait(),
        "echo" => echo::on_vsock(),
        #[cfg(target_arch = "x86_64")]
        "hostile" => hostile::attack(arguments),
        "tick" => button::tick_until_pressed(),
        "random" => machine::random(),
        "free" => memory::use_and_free(arguments),
        "deflate" => memory::use_what_the_balloon_has(arguments),
        "print" => console::print(arguments),
        "read-disk" => disk::read_through(arguments),
        "write-disk" => disk::write_through(arguments),
        "download" => network::download(arguments),
        "upload" => network::upload(arguments),
        "write" => disk::write(arguments),
        "check" => disk::check(arguments),
        "discard" => disk::discard(arguments),
        "read-only" => disk::read_only(arguments),
        _ => Err(format!("rig.do={action} is not known").into()),
    }
}

fn wait() -> Outcome<()> {
    println!("rig: waits");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
