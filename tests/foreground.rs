//! `mvm vmm`: on the host's KVM with a guest of a few bytes, how it ends and its sandbox; and on QEMU with a real one.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
// Numbers of tests are small, and meant.
#![allow(clippy::cast_possible_truncation)]

// It has more guests than these.
#[allow(dead_code)]
#[path = "../vmm/tests/sandbox/guest.rs"]
mod guest;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use guest::{Image, REQUESTS};
use support::{Instance, MVM, Outcome, Parts, run, skipped, there_is_kvm};

/// What a machine is made of.
struct Files(tempfile::TempDir);

impl Files {
    fn new(image: Image) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path("kernel"), image.into_elf()).unwrap();
        fs::write(files.path("disk"), vec![7; 64 << 10]).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, options: &[&str]) -> Outcome {
        let mut command = Command::new(MVM);
        command.arg("vmm").arg("--kernel").arg(self.path("kernel")).arg("--disk").arg(self.path("disk"));
        run(command.args(["--accel", "kvm", "--memory", "64M"]).args(options))
    }
}

#[test]
fn mistakes_are_usage_and_the_help_leads_here() {
    let mvm = |words: &str| run(Command::new(MVM).args(words.split(' ')));
    mvm("vmm --kernel k --accelerate").refused(2, "mvm vmm: invalid option '--accelerate'");
    mvm("vmm").refused(2, "mvm vmm: give --kernel FILE");
    let misplaced = mvm("--instance default vmm --kernel k");
    misplaced.refused(2, "vmm has no instance, and has to be the first word: `mvm vmm --help`");
    let listed = mvm("--help").ok();
    let mut verbs = listed.lines().filter_map(|line| line.trim().split_once(' '));
    let is_ours =
        |(verb, about): (&str, &str)| verb == "vmm" && about.trim().starts_with("Run one virtual machine");
    assert!(verbs.any(is_ours), "{listed}");
    assert!(mvm("vmm --help").ok().starts_with("Run one virtual machine from plain files"));
}

#[test]
fn a_guest_that_powers_off_is_a_success_in_the_sandbox_and_outside() {
    if !there_is_kvm() {
        return;
    }
    for option in [&[][..], &["--no-sandbox"]] {
        let files = Files::new(Image::new().with_code());
        let outcome = files.run(option);
        let is_said =
            outcome.stderr.contains("mvm vmm: without a sandbox: a guest that takes this process over may");
        assert_eq!(is_said, !option.is_empty(), "{outcome}");
        let printed = outcome.ok();
        assert!(printed.contains("printed\n") && printed.contains(&"0".repeat(REQUESTS)), "{printed}");
        assert_eq!(fs::read(files.path("disk")).unwrap()[..512], [b'a'; 512]);
    }
}

#[test]
fn a_console_that_is_a_file_has_another_beside_it() {
    if !there_is_kvm() {
        return;
    }
    let files = Files::new(Image::new().with_code());
    let console = files.path("console");
    assert_eq!(files.run(&["--console", console.to_str().unwrap(), "--cpus", "3"]).ok(), "");
    assert!(fs::read_to_string(&console).unwrap().contains("printed\n"));
    assert_eq!(fs::read(files.path("console.1")).unwrap(), b"");
}

#[test]
fn a_guest_that_resets_itself_has_a_status_of_its_own() {
    if !there_is_kvm() {
        return;
    }
    Files::new(Image::new().with_fault()).run(&[]).refused(4, "mvm vmm: the guest reset itself");
}

/// The limit of memory knows how much the guest has.
#[test]
fn large_machines_fit_their_limits() {
    if !there_is_kvm() {
        return;
    }
    Files::new(Image::new().with_code()).run(&["--memory", "8G", "--cpus", "32"]).ok();
}

/// The same files under QEMU, on any host: a real kernel, with two processors and a disk that it may not write to.
#[test]
fn qemu_runs_the_same_machine() {
    if skipped("vmm") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk.raw");
    fs::write(&disk, vec![7; 64 << 10]).unwrap();
    let machine = |words: &str| {
        let parts = Parts::here();
        let mut command = Command::new(&parts.mvm);
        command.env("XDG_DATA_HOME", &parts.data).env("XDG_CACHE_HOME", Instance::cache());
        command.args(["vmm", "--accel", "tcg", "--cpus", "2", "--kernel"]).arg(&parts.kernel);
        command.arg("--initrd").arg(&parts.initrd).arg("--disk").arg(format!("{},ro", disk.display()));
        command.arg("--cmdline").arg(format!("console=hvc0 quiet panic=-1 rdinit=/init rig.do={words}"));
        // On a busy host one may reset itself before its first word, for which a supervisor starts it again.
        let is_early = |outcome: &Outcome| outcome.status == 4 && !outcome.stdout.contains("rig: on");
        let mut outcomes = (0..3).map(|_| run(&mut command));
        let first = outcomes.next().unwrap();
        if is_early(&first) { outcomes.find(|outcome| !is_early(outcome)).unwrap_or(first) } else { first }
    };
    let described = machine("describe");
    assert!(described.stderr.contains("mvm vmm: engine tcg: as asked for"), "{described}");
    assert!(described.stdout.contains("rig: on TCGTCGTCGTCG"), "{described}");
    assert!(described.stdout.contains("rig: cpus=2 online=0-1"), "{described}");
    assert_eq!(described.status, 0, "{described}");
    let refused = machine("read-only rig.disk=/dev/vda rig.at=0 rig.blocks=1 rig.seed=1").ok();
    assert!(refused.contains("rig: ro=1"), "{refused}");
    machine("reset").refused(4, "mvm vmm: the guest reset itself");
    machine("panic").refused(4, "mvm vmm: the guest reset itself");
}
