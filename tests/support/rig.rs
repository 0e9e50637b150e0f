//! The rig of this test program: a Linux with KVM, made once, and started again after a test that spoiled it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ::rig::{Archive, Clock, Config, Job, Machine, MachineError, Report, Stream, modules};
use images::progress::Silent;
use images::{Directories, Pins, tools};
use tempfile::TempDir;

use super::images::busybox;
use super::place::{Parts, rig_init};
use super::{Appliance, Instance, MVM, VsockBench, rig_files, run};

/// Where the parts are inside, for [`super::place`].
const PARTS: &str = "MVM_RIG=/rig";
/// A test's deadline inside. The longest take a minute and a half on two busy cores.
const WITHIN: Duration = Duration::from_secs(900);
/// No more: with two, guests with several processors reset in one of about twenty boots, and now and then L1 with them
/// (QEMU 10.0, thread=multi); with one, in none of 150.
const CLOCK: Clock = Clock::Time { cpus: 1 };
const MEMORY_MIB: u32 = 4096;
/// What L1 loads; its other drivers are built in.
const MODULES: [&str; 4] = ["kvm-amd", "virtio_mmio", "virtio_console", "tun"];

/// The machine, if a test has started it and none has spoiled it.
static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);

/// The rig while one test has it to itself.
#[derive(Debug)]
pub struct Rig {
    machine: Machine,
    place: MutexGuard<'static, Option<Machine>>,
}

impl Rig {
    /// Waits until no other test has it.
    pub fn borrow() -> Self {
        let mut place = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = place.take().unwrap_or_else(|| start(CLOCK, &[]));
        Self { machine, place }
    }

    /// One that counts instructions, and has QEMU as well. Nobody else gets it.
    pub fn counting() -> Machine {
        start(Clock::Instructions, std::slice::from_ref(&Appliance::built().qemu_root))
    }

    /// The words of a job that runs this program inside.
    pub fn this_program<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["env", PARTS, "RUST_BACKTRACE=1", "/rig/test"], arguments].concat()
    }

    pub fn run(&mut self, job: Job<'_>, output: impl FnMut(Stream, &[u8])) -> Result<Report, MachineError> {
        self.machine.run(job, output)
    }

    /// For the next test. One that is not given back ends: it may be spoiled.
    pub fn give_back(self) {
        let Self { machine, mut place } = self;
        *place = Some(machine);
    }
}

/// Runs the test of this name inside, with its output as ours.
#[track_caller]
pub(super) fn run_test(name: &str) {
    let words = Rig::this_program(&["--exact", name, "--include-ignored", "--nocapture"]);
    let mut printed = Vec::new();
    let output = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => {
            printed.extend_from_slice(bytes);
            print!("{}", String::from_utf8_lossy(bytes));
        }
        Stream::Stderr => eprint!("{}", String::from_utf8_lossy(bytes)),
    };
    let mut rig = Rig::borrow();
    let report = rig.run(Job { words: &words, within: WITHIN }, output);
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    rig.give_back();
    keep(name, &report.files);
    let printed = String::from_utf8_lossy(&printed);
    assert_eq!(report.status, 0, "{name} failed inside the rig; its own words are above");
    assert!(printed.contains("test result: ok. 1 passed"), "{name} is not a test inside the rig: {printed}");
}

/// What a test left in `/out`.
fn keep(test: &str, files: &[(String, Vec<u8>)]) {
    if files.is_empty() {
        return;
    }
    let directory = directory().join(test.replace("::", "-"));
    std::fs::create_dir_all(&directory).expect("a directory for the test's files");
    for (name, content) in files {
        std::fs::write(directory.join(name), content).expect("a file of the test's is written");
    }
    println!("what it left is in {}", directory.display());
}

/// `more` are directories that it finds where they are here.
fn start(clock: Clock, more: &[PathBuf]) -> Machine {
    static INITRAMFS: OnceLock<File> = OnceLock::new();
    let files = rig_files();
    let ramdisk = || initramfs(&files, more).expect("the rig's ramdisk is written");
    let config = Config {
        qemu: &Appliance::built().qemu,
        kernel: &files.join("vmlinuz"),
        initramfs: INITRAMFS.get_or_init(ramdisk),
        clock,
        memory_mib: MEMORY_MIB,
        kernel_arguments: &vmm::engine::tcg::kernel_arguments(),
    };
    // On a busy host Debian's kernel measures its only timer wrong now and then, and stands still: ours has a patch for that.
    let mut again = 2;
    loop {
        match Machine::start(&config) {
            Ok(machine) => return machine,
            Err(error @ MachineError::Late { .. }) if again > 0 => {
                eprintln!("the rig is started again: {error}");
            }
            Err(error) => panic!("{error}"),
        }
        again -= 1;
    }
}

fn initramfs(files: &Path, more: &[PathBuf]) -> std::io::Result<File> {
    let init = rig_init();
    let mut archive = Archive::new(BufWriter::new(tempfile::tempfile()?));
    archive.copy("init", &init)?;
    archive.copy("bin/busybox", &files.join("busybox"))?;
    archive.symlink("bin/sh", "busybox")?;
    modules_into(&mut archive, &files.join("modules"))?;

    let stripped = TempDir::new()?;
    let itself = std::env::current_exe()?;
    let bench = VsockBench::built();
    let mut libraries = BTreeSet::new();
    for (name, program) in [("mvm", Path::new(MVM)), ("test", &itself)].into_iter().chain(bench.files()) {
        archive.copy(&format!("rig/{name}"), &strip(program, &stripped.path().join(name)))?;
        libraries.extend(libraries_of(program));
    }
    for library in libraries {
        archive.copy(name_in_archive(&library), &library)?;
    }
    archive.copy("rig/vmlinux", &Appliance::built().kernel)?;
    archive.copy("rig/vmlinuz", &files.join("vmlinuz"))?;
    appliance_into(&mut archive)?;
    for directory in more {
        tree_into(&mut archive, directory, name_in_archive(directory))?;
    }
    archive.copy("rig/busybox-arm64", &foreign_busybox())?;
    archive.copy("rig/guest.cpio", &guests_ramdisk(&init))?;
    Ok(archive.finish()?.into_inner()?)
}

fn name_in_archive(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8").trim_start_matches('/')
}

/// What `mvm up` needs: the appliance that these tests boot, as its store has it, and passt.
fn appliance_into(archive: &mut Archive<impl Write>) -> std::io::Result<()> {
    let directories =
        Directories { data: Instance::data().join("mvm"), cache: Instance::cache().join("mvm") };
    let store = directories.images();
    for file in files_of(&store, &Appliance::built().digest) {
        archive.copy(&format!("rig/data/mvm/images/{file}"), &store.join(&file))?;
    }
    let passt = tools::ensure("passt", &directories, Pins::Exact, &Silent).expect("passt is unpacked");
    let name = passt.root.file_name().and_then(|name| name.to_str()).expect("its name is UTF-8");
    tree_into(archive, &passt.root, &format!("rig/data/mvm/tools/{name}"))
}

/// The files of a store (an OCI layout) that one image in it needs.
fn files_of(store: &Path, manifest: &str) -> Vec<String> {
    let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    let text = std::fs::read(store.join(blob(manifest))).expect("the manifest can be read");
    let parsed: serde_json::Value = serde_json::from_slice(&text).expect("the manifest is JSON");
    let layers = parsed["layers"].as_array().into_iter().flatten();
    let digests = layers.chain([&parsed["config"]]).map(|part| part["digest"].as_str().expect("a digest"));
    let blobs = digests.chain([manifest]).map(blob);
    blobs.chain(["index.json", "oci-layout"].map(str::to_owned)).collect()
}

fn tree_into(archive: &mut Archive<impl Write>, from: &Path, to: &str) -> std::io::Result<()> {
    archive.directory(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let path = format!("{to}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tree_into(archive, &entry.path(), &path)?;
        } else if kind.is_symlink() {
            archive.symlink(&path, &std::fs::read_link(entry.path())?.to_string_lossy())?;
        } else {
            archive.copy(&path, &entry.path())?;
        }
    }
    Ok(())
}

fn modules_into(archive: &mut Archive<impl Write>, directory: &Path) -> std::io::Result<()> {
    let modules = modules::in_order(directory, &MODULES).unwrap_or_else(|error| panic!("{error}"));
    let list = tempfile::NamedTempFile::new()?;
    for module in modules {
        let name = module.file_name().and_then(|name| name.to_str()).expect("a module's name is UTF-8");
        writeln!(&list, "{name}")?;
        archive.copy(&format!("modules/{name}"), &module)?;
    }
    archive.copy("modules/order", list.path())
}

/// The initial ramdisk of a guest.
pub(super) fn guests_ramdisk(init: &Path) -> PathBuf {
    let path = directory().join("guest.cpio");
    let write = || {
        let file = tempfile::NamedTempFile::new_in(directory())?;
        let mut archive = Archive::new(&file);
        archive.copy("init", init)?;
        archive.finish()?;
        file.persist(&path).map_err(std::io::Error::from)
    };
    write().expect("the guest's ramdisk is written");
    path
}

/// A program that this processor cannot run by itself.
pub(super) fn foreign_busybox() -> PathBuf {
    let path = directory().join("busybox-arm64");
    busybox("arm64", &path);
    path
}

/// Where files of these tests stay.
fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig");
    std::fs::create_dir_all(&directory).expect("a directory for the rig's files");
    directory
}

/// Without its symbols, which are most of a program under test; where there is no strip, as it is.
fn strip(program: &Path, to: &Path) -> PathBuf {
    let done = Command::new("strip").arg("-o").arg(to).arg(program).status();
    if done.is_ok_and(|status| status.success()) { to.to_owned() } else { program.to_owned() }
}

/// The shared libraries of a program, and the linker that loads them.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let printed = run(Command::new("ldd").arg(program)).ok();
    printed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
