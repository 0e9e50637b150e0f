//! How QEMU ends, in sentences.

use std::process::ExitStatus;

use super::arguments::disk_name;
use crate::engine::Outcome;
use crate::engine::tcg::Machine;

impl Machine {
    /// The guest's journal makes good what was under way, as after a power cut; waiting would only let clients hang.
    pub(crate) fn disk_stopped(&self, name: &str, why: &str) -> String {
        let mut numbered = self.disks.iter().enumerate();
        let disk = numbered.find(|(number, _)| disk_name(*number) == name).map(|(_, disk)| disk);
        let path = disk.map_or_else(|| name.to_owned(), |disk| disk.path.display().to_string());
        format!(
            "the host could not write to the disk {path}: {why}; make room there, then start the machine again"
        )
    }
}

/// QEMU leaves with status 0 whether the guest powered off or was reset (`-no-reboot`).
pub(crate) fn outcome(status: ExitStatus, reason: Option<&str>, words: &str) -> Outcome {
    let said = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
    match (status.success(), reason) {
        (true, Some("guest-shutdown")) => Outcome::PoweredOff,
        (true, Some("guest-reset")) => Outcome::Reset,
        (true, None) => Outcome::Failed(format!("QEMU ended by itself, and did not say why{said}")),
        (true, Some(reason)) => {
            Outcome::Failed(format!("the guest ended by {reason}; see its console{said}"))
        }
        (false, _) => Outcome::Failed(format!("QEMU failed ({status}){said}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;

    use super::*;
    use crate::engine::tcg::Disk;

    #[test]
    fn a_guest_that_powers_off_is_told_from_one_that_resets() {
        let clean = ExitStatus::from_raw(0);
        assert_eq!(outcome(clean, Some("guest-shutdown"), ""), Outcome::PoweredOff);
        assert_eq!(outcome(clean, Some("guest-reset"), ""), Outcome::Reset);
        let Outcome::Failed(why) = outcome(clean, None, "") else { panic!("not a failure") };
        assert_eq!(why, "QEMU ended by itself, and did not say why");
    }

    #[test]
    fn a_qemu_that_fails_is_quoted() {
        let failed = ExitStatus::from_raw(1 << 8);
        let Outcome::Failed(why) = outcome(failed, None, "no such file") else { panic!("not a failure") };
        assert_eq!(why, "QEMU failed (exit status: 1); it said: no such file");
    }

    #[test]
    fn a_disk_that_stopped_the_machine_is_told_by_its_file() {
        let disk = |path: &str| Disk { path: path.into(), is_read_only: false };
        let machine = Machine {
            cpus: 1,
            memory_mib: 64,
            kernel: PathBuf::new(),
            initrd: None,
            command_line: String::new(),
            disks: vec![disk("/i/root"), disk("/i/data.raw")],
        };
        let why = machine.disk_stopped("disk1", "No space left on device");
        assert!(
            why.starts_with("the host could not write to the disk /i/data.raw: No space left on device;"),
            "{why}"
        );
    }
}
