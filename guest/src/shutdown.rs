//! The orderly end: the root image's own steps, services, every other process, file systems, power.

use std::path::Path;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};
use tokio::time::timeout;

use crate::bundle;
use crate::init::kill_all_but_init;
use crate::step;
use crate::system::System;

const ONSHUTDOWN: &str = "/containers/onshutdown";

/// Where the data disk is mounted; below it dockerd and containerd mount much more.
const DATA: &str = "/var/lib";
/// How long the end of killed processes may take. It is the kernel's work alone.
const KILLED_DEADLINE: Duration = Duration::from_secs(5);

/// Stops everything. What fails is left behind: the journal of the data disk makes good for it at the next boot.
pub(crate) async fn shut_down(system: &System) {
    system.events.shutting_down();
    if timeout(protocol::ONSHUTDOWN, run_onshutdown(system)).await.is_err() {
        let seconds = protocol::ONSHUTDOWN.as_secs();
        system.logs.say(format!("the steps of the shutdown are not done after {seconds} s, and are left"));
    }
    system.services.stop_all().await;
    kill_all_but_init();
    kill_the_rest();
    drop(timeout(KILLED_DEADLINE, system.children.none_left()).await);
    rustix::fs::sync();
    unmount_data();
}

/// In order, each to its end, while services still run. One that fails is no reason to stay.
async fn run_onshutdown(system: &System) {
    let steps = match bundle::list(Path::new(ONSHUTDOWN)) {
        Ok(steps) => steps,
        Err(error) => return system.logs.say(error.to_string()),
    };
    for directory in steps {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(error) = step::run(system, &directory, &format!("onshutdown.{name}")).await {
            system.logs.say(format!("the step {name} of the shutdown failed: {error}"));
        }
    }
}

/// Processes in init's own cgroup: what an exec started.
fn kill_the_rest() {
    // SAFETY: kill(2) takes two integers and touches no memory of ours. For PID 1 the target -1 is every process but
    // itself.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Unmounts what lies at and below the data disk's place, the deepest and newest first.
fn unmount_data() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for place in places_below(&mounts, DATA).into_iter().rev() {
        let _ = unmount(place.as_str(), UnmountFlags::empty());
    }
}

/// The mount points (field 5, proc_pid_mountinfo(5)) at and below `root`, in the order of mounting.
fn places_below(mountinfo: &str, root: &str) -> Vec<String> {
    let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    places.filter(|place| std::path::Path::new(place).starts_with(root)).collect()
}

/// Spaces and their like stand as three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Turns the machine off. A kernel that cannot do that is told to reset, which the machine's host takes for the same.
pub(crate) fn power_off() {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    let _ = reboot(RebootCommand::Restart);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_the_data_disk_are_taken_and_names_are_unescaped() {
        let mountinfo = "22 1 254:0 / / ro - erofs /dev/root ro\n\
            30 22 254:16 / /var/lib rw - ext4 /dev/vdb rw\n\
            31 22 0:20 / /var/libexec rw - tmpfs tmpfs rw\n\
            40 30 0:44 / /var/lib/docker/a\\040b rw shared:9 - overlay overlay rw\n";
        assert_eq!(places_below(mountinfo, "/var/lib"), ["/var/lib", "/var/lib/docker/a b"]);
    }
}
