//! Disks: what was flushed is there, what was given back is free, and a disk belongs to one machine.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use ::rig::blocks;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::support::{eventually, is_inside_rig, on_kvm, run};

const BLOCK: u64 = blocks::BLOCK as u64;
/// Blocks of the part that a guest writes to: 8 MiB.
const BLOCKS: u64 = 2048;
const ROUNDS: u64 = 2;
const SEED: u64 = 7;

/// A sparse file; gone with the value.
struct Image {
    directory: TempDir,
    path: PathBuf,
}

impl Image {
    fn of(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self { directory, path }
    }

    fn disk(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    fn console(&self) -> PathBuf {
        self.directory.path().join("console")
    }

    /// Fails unless the file itself has at this offset what a guest wrote and flushed there.
    #[track_caller]
    fn expect_written(&self, at: u64) {
        let file = File::open(&self.path).unwrap();
        for (number, round) in (0..).zip(blocks::last_rounds(SEED, BLOCKS, ROUNDS)) {
            let (mut found, mut expected) = ([0; blocks::BLOCK], [0; blocks::BLOCK]);
            file.read_exact_at(&mut found, at + number * BLOCK).unwrap();
            if let Some(round) = round {
                blocks::fill(&mut expected, SEED, number, round);
            }
            assert!(found == expected, "block {number}, last written in round {round:?}, at {at}");
        }
    }

    /// Bytes that it takes of the host's disk.
    fn taken(&self) -> u64 {
        self.path.metadata().unwrap().blocks() * 512
    }
}

/// The second disk of a guest: the first is there so that the second is not taken for it.
fn guest(action: &str, at: u64, first: &Image, disk: &str) -> Guest {
    let part =
        format!("rig.disk=/dev/vdb rig.at={at} rig.blocks={BLOCKS} rig.seed={SEED} rig.rounds={ROUNDS}");
    Guest::doing(format!("{action} {part}")).cpus(2).disk(first.disk()).disk(disk)
}

#[test]
fn what_was_flushed_outlives_a_killed_machine() {
    on_kvm(|| {
        let (first, image) = (Image::of(1 << 20), Image::of(3 * BLOCKS * BLOCK));
        let writing = guest("write rig.then=on", 0, &first, &image.disk()).console(&image.console());
        let running = writing.start_and_hear("flushed");
        // It goes on, behind what was flushed.
        eventually("more blocks of the disk", 300, || match image.taken() {
            taken if taken > BLOCKS * BLOCK => Ok(()),
            taken => Err(format!("it takes {taken} bytes")),
        });
        running.signal("KILL");
        assert_eq!(running.outcome().status, 137);
        image.expect_written(0);
        let checked = guest("check", 0, &first, &image.disk()).done();
        assert_eq!(checked, [format!("checked={BLOCKS}")]);
        assert_eq!(first.taken(), 0, "the other disk was written to");
        // The check can fail: behind that part stands something else.
        let other = guest("check", BLOCK, &first, &image.disk()).run();
        assert!(other.stdout.contains("rig: failed: block 0, last written in round"), "{other}");
    });
}

/// Offsets that do not fit into 32 bits, as bytes or, for the second, as signed sectors of 512.
#[test]
fn a_disk_may_be_larger_than_numbers_of_32_bits() {
    on_kvm(|| {
        for at in [(2 << 30) - BLOCK, (4 << 30) - BLOCK, (1 << 40) - BLOCK] {
            let (first, image) = (Image::of(1 << 20), Image::of(at + 2 * BLOCKS * BLOCK));
            guest("write rig.then=off", at, &first, &image.disk()).done();
            assert!((BLOCK..2 * BLOCKS * BLOCK).contains(&image.taken()), "{} bytes", image.taken());
            image.expect_written(at);
            guest("check", at, &first, &image.disk()).done();
        }
    });
}

#[test]
fn what_the_guest_discards_is_free_on_the_host() {
    on_kvm(|| {
        let (first, image) = (Image::of(1 << 20), Image::of(2 * BLOCKS * BLOCK));
        guest("write rig.then=off", 0, &first, &image.disk()).done();
        let written = image.taken();
        assert!(written > BLOCKS / 4 * BLOCK, "{written} bytes were written");
        assert_eq!(guest("discard", 0, &first, &image.disk()).done(), ["discarded"]);
        assert_eq!(image.taken(), 0, "of {written}");
    });
}

#[test]
fn a_disk_that_may_only_be_read_is_not_written() {
    on_kvm(|| {
        let (first, image) = (Image::of(1 << 20), Image::of(BLOCKS * BLOCK));
        let read_only = format!("{},ro", image.disk());
        // Linux refuses by itself what the device says of itself: EPERM, and at the open EACCES.
        let said = guest("read-only", 0, &first, &read_only).done();
        assert_eq!(said[0], "ro=1");
        assert!(["refused=1", "refused=13"].contains(&said[1].as_str()), "{said:?}");
        assert_eq!(image.taken(), 0);
        let said = guest("read-only", 0, &first, &image.disk()).done();
        assert_eq!(said, ["ro=0", "written"]);
        assert_eq!(image.taken(), BLOCK);
    });
}

#[test]
fn two_machines_do_not_share_a_disk() {
    on_kvm(|| {
        let image = Image::of(1 << 20);
        let first = Guest::doing("wait").disk(image.disk()).console(&image.console()).start_and_hear("waits");
        let refused = format!("the disk {} is used by another machine; end that one", image.path.display());
        Guest::doing("nothing").disk(image.disk()).run().refused(1, &refused);
        Guest::doing("nothing").disk(image.disk() + ",ro").run().refused(1, &refused);
        drop(first);

        // Those that only read share it.
        let reads = image.disk() + ",ro";
        let console = image.console();
        let first = Guest::doing("wait").disk(&reads).console(&console).start_and_hear("waits");
        Guest::doing("nothing").disk(&reads).done();
        Guest::doing("nothing").disk(image.disk()).run().refused(1, &refused);
        drop(first);
        Guest::doing("nothing").disk(image.disk()).done();
    });
}

/// On a host whose disk is full a machine ends and says so: a guest that went on would only break its file system.
#[test]
fn a_full_host_ends_the_machine_with_the_remedy() {
    on_kvm(|| {
        // Nothing may be mounted on a host that is not the test's own.
        if !is_inside_rig() {
            return;
        }
        let (first, place) = (Image::of(1 << 20), tempfile::tempdir().unwrap());
        let path = place.path().to_str().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", path])).ok();
        let disk = format!("{path}/disk.raw");
        File::create(&disk).unwrap().set_len(BLOCKS * BLOCK).unwrap();
        let refused = format!("the host could not write to the disk {disk}: No space left on device");
        guest("write rig.then=off", 0, &first, &disk).run().refused(1, &refused);
        run(Command::new("umount").arg(path)).ok();
    });
}
