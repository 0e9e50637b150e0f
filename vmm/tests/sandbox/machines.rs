//! Whole machines in their sandbox: what they need is in the tables.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use vmm::board::x86_64::layout::{SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_TYPE_OFF};
use vmm::console::{self, Console};
use vmm::devices::blk::Disk;
use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Control, Watcher};
use vmm::hypervisor::fake::{Fake, Scripted};
use vmm::hypervisor::kvm::Kvm;
use vmm::sandbox::Confinement;

use crate::child::{enter, start};
use crate::guest::{Image, LINES, REQUESTS, script};
use crate::lacking::answer;
use crate::skip::there_is_kvm;

const DISK: usize = 64 << 10;

/// A directory with a disk of sevens.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("disk"), vec![7; DISK]).unwrap();
    directory
}

/// What the guest's requests have made of the disk.
#[track_caller]
fn check_disk(directory: &Path) {
    let bytes = std::fs::read(directory.join("disk")).unwrap();
    let sectors = |from: usize, to: usize| &bytes[512 * from..512 * to];
    assert!(sectors(0, 1).iter().all(|byte| *byte == b'a'), "written");
    assert!(sectors(1, 8).iter().all(|byte| *byte == 7), "let alone");
    assert!(sectors(8, 32).iter().all(|byte| *byte == 0), "discarded, and zeroes");
    assert!(sectors(32, 40).iter().all(|byte| *byte == 7), "let alone");
    assert!(sectors(40, 41).iter().all(|byte| *byte == b'z'), "written last");
}

fn printed(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("console")).unwrap()
}

/// Opens what a machine needs, then enters the sandbox; the order that `mvm vmm` has.
struct Opened {
    disk: Disk,
    kernel: std::fs::File,
    confinement: Confinement,
    console: Console,
    printed: OwnedFd,
}

impl Opened {
    fn new(directory: &Path, image: Image) -> Self {
        let disk = Disk::open(&directory.join("disk"), false).unwrap();
        let mut kernel = tempfile::tempfile().unwrap();
        kernel.write_all(&image.into_elf()).unwrap();
        let sink = console::file(&directory.join("console")).unwrap();
        let confinement = enter();
        let (console, printed) = Console::to(sink, confinement.clone()).unwrap();
        Self { disk, kernel, confinement, console, printed }
    }

    fn split(self, cpus: u8) -> (Config, Console) {
        let config = Config {
            cpus,
            memory: 8 << 20,
            kernel: self.kernel,
            initrd: None,
            command_line: "quiet".into(),
            disks: vec![self.disk],
            network: None,
            vsock: None,
            balloon: 0,
            watcher: Watcher::default(),
            console: self.printed,
            confinement: self.confinement,
        };
        (config, self.console)
    }
}

#[test]
fn devices_work_behind_a_script() {
    // Firecracker #5052: a debug build makes calls that a release does not. This is one, and the tables are the same.
    for order in ["fake", "fake-one-by-one"] {
        let directory = directory();
        let ended = start(&format!("{order} {}", directory.path().display()));
        ended.well();
        assert!(ended.said.contains("Stopped"), "{}", ended.said);
        check_disk(directory.path());
        let printed = printed(directory.path());
        assert!(printed.contains("said") && printed.contains("printed\n"), "{printed}");
    }
}

/// As on a host without io_uring.
pub(crate) fn one_by_one(words: &[&str]) {
    answer(&[libc::SYS_io_uring_setup], libc::ENOSYS);
    fake(words);
}

/// Ends the machine when the devices have done everything.
pub(crate) fn fake(words: &[&str]) {
    let directory = Path::new(words[0]);
    let watched = std::fs::File::open(directory.join("disk")).unwrap();
    let (config, console) = Opened::new(directory, Image::new()).split(2);
    let fake = Fake::new(vec![script(), Vec::new()]);
    let (control, orders) = native::control();
    let seen = fake.clone();
    thread::spawn(move || {
        let is_done = || {
            let interrupts = seen.seen().interrupts;
            let mut mark = [0];
            watched.read_exact_at(&mut mark, 512 * 40).unwrap();
            mark == *b"z" && LINES.iter().all(|line| interrupts.contains(line))
        };
        wait_until(is_done);
        order_about(&control);
    });
    let outcome = native::run(&fake, config, orders).unwrap();
    console.finish();
    eprintln!("{outcome:?}");
}

fn wait_until(is_done: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_done() && started.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Everything that can be asked of a machine, and at last its end.
fn order_about(control: &Control) {
    for _ in 0..20 {
        control.pause().recv_timeout(Duration::from_secs(60)).unwrap();
        control.resume();
        thread::sleep(Duration::from_millis(1));
    }
    control.press_power_button();
    control.stop();
}

/// Whatever a vCPU waits for then, its filter allows.
#[test]
fn a_driver_may_reset_its_disk_in_the_midst_of_its_work() {
    let directory = directory();
    start(&format!("resets {}", directory.path().display())).well();
}

pub(crate) fn resets(words: &[&str]) {
    let (config, console) = Opened::new(Path::new(words[0]), Image::new()).split(1);
    // Each set-up begins with a reset.
    let mut script: Vec<_> = std::iter::repeat_n(script(), 200).flatten().collect();
    script.push(Scripted::PortWrite(SLEEP_CONTROL, vec![SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE]));
    let outcome = native::run(&Fake::new(vec![script]), config, native::control().1).unwrap();
    console.finish();
    assert_eq!(outcome, Outcome::PoweredOff);
}

/// A thread that panics is an end of the machine like another, with a backtrace asked for or not.
#[test]
fn a_panic_ends_the_machine_and_not_the_process() {
    let directory = directory();
    let ended = start(&format!("panic {}", directory.path().display()));
    ended.well();
    assert!(ended.said.contains("the thread vcpu0 panicked at "), "{}", ended.said);
    assert!(ended.said.contains("vCPU 0: the thread of a vCPU panicked"), "{}", ended.said);
}

pub(crate) fn panic(words: &[&str]) {
    let (config, console) = Opened::new(Path::new(words[0]), Image::new()).split(1);
    let outcome = native::run(&Fake::new(vec![vec![Scripted::Panic]]), config, native::control().1).unwrap();
    console.finish();
    let Outcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    eprintln!("{why}");
}

/// More than a file may grow to.
#[test]
fn the_consoles_file_is_put_aside_without_opening_another() {
    let directory = tempfile::tempdir().unwrap();
    start(&format!("console {}", directory.path().display())).well();
    let size = |name| std::fs::metadata(directory.path().join(name)).unwrap().len();
    let kept = size("console") + size("console.1");
    assert!(size("console.1") >= 4 << 20 && (4 << 20..9 << 20).contains(&kept), "{kept}");
}

pub(crate) fn console(words: &[&str]) {
    let sink = console::file(&Path::new(words[0]).join("console")).unwrap();
    let (console, printed) = Console::to(sink, enter()).unwrap();
    let mut printed = std::fs::File::from(printed);
    for _ in 0..9 << 6 {
        printed.write_all(&[b'x'; 16 << 10]).unwrap();
    }
    drop(printed);
    console.finish();
}

#[test]
fn a_guest_on_kvm_uses_its_devices_and_powers_off() {
    if !there_is_kvm() {
        return;
    }
    let directory = directory();
    let ended = start(&format!("kvm {}", directory.path().display()));
    ended.well();
    assert!(ended.said.contains("PoweredOff"), "{}", ended.said);
    check_disk(directory.path());
    let printed = printed(directory.path());
    assert!(printed.contains("printed\n"), "{printed}");
    assert!(
        printed.contains(&"0".repeat(REQUESTS)),
        "every answer of the disk is that it is done: {printed}"
    );
}

pub(crate) fn kvm(words: &[&str]) {
    let kvm = Kvm::open().unwrap();
    let (config, console) = Opened::new(Path::new(words[0]), Image::new().with_code()).split(1);
    // A machine that hangs is ended.
    let (control, orders) = native::control();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(60));
        control.stop();
    });
    let outcome = native::run(&kvm, config, orders).unwrap();
    console.finish();
    eprintln!("{outcome:?}");
}

#[test]
fn a_guest_on_kvm_is_ordered_about() {
    if !there_is_kvm() {
        return;
    }
    let directory = directory();
    let ended = start(&format!("kvm-loop {}", directory.path().display()));
    ended.well();
    assert!(ended.said.contains("Stopped"), "{}", ended.said);
}

pub(crate) fn kvm_loop(words: &[&str]) {
    let kvm = Kvm::open().unwrap();
    let (config, console) = Opened::new(Path::new(words[0]), Image::new().with_loop()).split(2);
    let (control, orders) = native::control();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        order_about(&control);
    });
    let outcome = native::run(&kvm, config, orders).unwrap();
    console.finish();
    eprintln!("{outcome:?}");
}
