//! A machine that ends, however it ends, leaves nothing behind.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::guest::Guest;
use crate::support::{Processes, on_kvm};

/// How long guests are started one after the other, and the most of them.
const BOOTS_FOR: Duration = Duration::from_secs(40);
const MOST_BOOTS: usize = 50;
/// For the test that takes its time.
const MANY_BOOTS: usize = 200;

/// A directory with a disk; who uses it shows the directory among its arguments.
fn with_disk() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk.raw");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let disk = disk.to_str().unwrap().to_owned();
    (directory, disk)
}

#[track_caller]
fn only_the_disk_is_left_in(directory: &Path) {
    Processes::of(directory).expect_none();
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["disk.raw"]);
}

#[test]
fn a_signal_ends_the_machine() {
    on_kvm(|| {
        for (signal, status) in [("TERM", 143), ("INT", 130)] {
            let (directory, disk) = with_disk();
            let console = tempfile::NamedTempFile::new().unwrap();
            let guest = Guest::doing("wait").disk(disk).console(console.path());
            let running = guest.start_and_hear("waits");
            Processes::of(directory.path()).with_argument("vmm");
            running.signal(signal);
            let outcome = running.outcome();
            assert_eq!(outcome.status, status, "{outcome}");
            only_the_disk_is_left_in(directory.path());
        }
    });
}

#[test]
fn a_killed_machine_frees_its_disk_and_leaves_no_process() {
    on_kvm(|| {
        let (directory, disk) = with_disk();
        let console = tempfile::NamedTempFile::new().unwrap();
        let running =
            Guest::doing("wait").cpus(2).disk(&disk).console(console.path()).start_and_hear("waits");
        running.signal("KILL");
        assert_eq!(running.outcome().status, 137);
        only_the_disk_is_left_in(directory.path());
        Guest::doing("nothing").disk(&disk).done();
        only_the_disk_is_left_in(directory.path());
    });
}

/// As many as there is time for, at least three and at most fifty.
#[test]
fn machines_one_after_the_other_leave_nothing() {
    on_kvm(|| boot_many(|boots, took| boots < MOST_BOOTS && (boots < 3 || took < BOOTS_FOR)));
}

#[test]
#[ignore = "long: minutes, where the machine's processor is emulated"]
fn two_hundred_machines_one_after_the_other_leave_nothing() {
    on_kvm(|| boot_many(|boots, _| boots < MANY_BOOTS));
}

fn boot_many(goes_on: impl Fn(usize, Duration) -> bool) {
    let (directory, disk) = with_disk();
    let before = files_of_the_system();
    let started = Instant::now();
    let mut boots = 0;
    while goes_on(boots, started.elapsed()) {
        let cpus = [1, 2, 4][boots % 3];
        Guest::doing("nothing").cpus(cpus).disk(&disk).done();
        boots += 1;
    }
    println!("{boots} boots in {} s", started.elapsed().as_secs());
    only_the_disk_is_left_in(directory.path());
    assert_eq!(files_of_the_system(), before);
}

/// Where programs leave files behind.
fn files_of_the_system() -> Vec<String> {
    let mut files: Vec<_> = ["/tmp", "/run", "/dev/shm"]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .map(|entry| entry.unwrap().path().display().to_string())
        // Outside of the rig other tests have theirs there.
        .filter(|path| {
            path.contains("mvm") && !["/mvm-t", "/mvm-registry"].iter().any(|of| path.contains(of))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_cannot_be_started_is_told() {
    on_kvm(|| {
        let (directory, disk) = with_disk();
        Guest::doing("nothing").cpus(0).run().refused(1, "0 processors cannot be had; give from 1 to 32");
        let missing = directory.path().join("missing.raw");
        let missing = missing.to_str().unwrap();
        Guest::doing("nothing").disk(missing).run().refused(1, &format!("cannot open the disk {missing}"));
        File::options().write(true).open(&disk).unwrap().set_len(1000).unwrap();
        Guest::doing("nothing")
            .disk(&disk)
            .run()
            .refused(1, "has 1000 bytes, which is no whole number of sectors");
        only_the_disk_is_left_in(directory.path());
    });
}
