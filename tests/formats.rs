//! `mvm image build --format`: every format of a small appliance, the same bytes each time, and booted as other machines do.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use support::{Instance, MVM, layout, run, skipped, unpacked};
use tempfile::TempDir;

/// What its one step prints, once it runs.
const SAID: &str = "the answer is 42";

/// Every format that is written as files, and which those are.
const FORMATS: [(&str, &[&str]); 9] = [
    ("kernel+erofs", &["tiny-cmdline", "tiny-erofs.img", "tiny-kernel"]),
    ("kernel+squashfs", &["tiny-cmdline", "tiny-kernel", "tiny-squashfs.img"]),
    ("kernel+initrd", &["tiny-cmdline", "tiny-initrd.img", "tiny-kernel"]),
    ("tar", &["tiny.tar"]),
    ("tar-kernel-initrd", &["tiny-initrd.tar"]),
    ("docker", &["tiny.docker"]),
    ("raw-efi", &["tiny-efi.img"]),
    ("qcow2-efi", &["tiny-efi.qcow2"]),
    ("iso-efi", &["tiny-efi.iso"]),
];

/// A definition whose one step says something on the console and powers the machine off.
struct Tiny {
    instance: Instance,
    directory: TempDir,
}

impl Tiny {
    /// With this kernel, which has its console there.
    fn new(kernel: &str, console: &str) -> Self {
        let (instance, directory) = (Instance::bare("formats"), tempfile::tempdir().unwrap());
        let image = layout("test/tiny:1", &json!({"Entrypoint": ["/bin/busybox", "sh", "-c"]}));
        instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
        let definition = json!({
            "kernel": {"image": kernel, "cmdline": format!("console={console} quiet panic=-1")},
            "init": ["mvm/init"],
            "onboot": [{
                "name": "say",
                "image": "test/tiny:1",
                "command": [
                    "/bin/busybox", "sh", "-c",
                    "echo the answer is $((6 * 7)) > /dev/console; /bin/busybox poweroff -f",
                ],
                "devices": [{"path": "/dev/console", "type": "c", "major": 5, "minor": 1, "mode": "0600"}],
                "capabilities": ["CAP_SYS_BOOT"],
                "pid": "host",
            }],
        });
        fs::write(directory.path().join("tiny.yml"), definition.to_string()).unwrap();
        Self { instance, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What builds a format into a directory.
    fn build(&self, format: &str, output: &Path) -> Command {
        let mut command = self.instance.command();
        command.args(["image", "build", "--format", format, "--output"]).arg(output);
        command.arg(self.path("tiny.yml"));
        command
    }

    /// The files of a format, built.
    fn built(&self, format: &str) -> PathBuf {
        let output = self.path(format);
        fs::create_dir_all(&output).unwrap();
        run(&mut self.build(format, &output)).ok();
        output
    }
}

/// A command behind the words of another program, which runs it.
fn behind(words: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs a machine that ends itself; one that hangs is ended after ten minutes, which is a failure.
fn boots(machine: &Command) {
    let outcome = run(&mut behind(&["timeout", "600"], machine));
    assert!(outcome.stdout.contains(SAID), "{outcome}");
    assert_eq!(outcome.status, 0, "{outcome}");
}

/// `mvm vmm` on QEMU.
fn vmm(kernel: &Path, cmdline: &str) -> Command {
    let mut command = Command::new(MVM);
    command.env("XDG_DATA_HOME", Instance::data()).env("XDG_CACHE_HOME", Instance::cache());
    command.args(["vmm", "--accel", "tcg", "--memory", "512M", "--kernel"]).arg(kernel);
    command.args(["--cmdline", cmdline]);
    command
}

/// A PC with EFI firmware, to be given a disk.
fn pc(directory: &Path) -> Command {
    let qemu = unpacked("qemu").command;
    let firmware = unpacked("ovmf").root.join("usr/share/OVMF");
    // The firmware keeps its settings there.
    let settings = directory.join("settings.fd");
    fs::copy(firmware.join("OVMF_VARS_4M.fd"), &settings).unwrap();
    let mut command = Command::new(&qemu[0]);
    command.args(&qemu[1..]).args([
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-m",
        "512M",
    ]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    let flash = |file: &Path, more: &str| format!("if=pflash,format=raw,{more}file={}", file.display());
    command.args(["-drive", &flash(&firmware.join("OVMF_CODE_4M.fd"), "readonly=on,")]);
    command.args(["-drive", &flash(&settings, "")]);
    command
}

fn with_disk<'a>(command: &'a mut Command, format: &str, file: &Path, device: &str) -> &'a mut Command {
    let drive = format!("if=none,id=disk,format={format},file={}", file.display());
    command.args(["-drive", &drive, "-device", &format!("{device},drive=disk,bootindex=0")])
}

/// The names of a directory's files, and the hashes of what is in them.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, hex::encode(Sha256::digest(fs::read(&path).unwrap())))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_format_is_the_same_each_time_whoever_makes_it() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::new("mvm/kernel-efi", "ttyS0");
    for (format, names) in FORMATS {
        let first = files(&tiny.built(format));
        assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "{format}");
        let again = tiny.path("again");
        fs::create_dir(&again).unwrap();
        // Another umask, another time zone, a scratch directory of another name, and what others make builds the same with.
        let mut other = behind(&["sh", "-c", "umask 077; exec \"$@\"", "sh"], &tiny.build(format, &again));
        run(other.env("TZ", "Pacific/Auckland").env("SOURCE_DATE_EPOCH", "1")).ok();
        assert!(files(&again) == first, "{format} is not the same: {first:?} {:?}", files(&again));
        fs::remove_dir_all(&again).unwrap();
    }
}

#[test]
fn disks_and_discs_start_on_a_machine_with_efi() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::new("mvm/kernel-efi", "ttyS0");
    let scratch = tiny.directory.path();
    // Each on another of the buses that real machines have.
    let raw = tiny.built("raw-efi").join("tiny-efi.img");
    boots(with_disk(&mut pc(scratch), "raw", &raw, "ide-hd"));
    let qcow2 = tiny.built("qcow2-efi").join("tiny-efi.qcow2");
    boots(with_disk(&mut pc(scratch), "qcow2", &qcow2, "nvme,serial=x"));
    let iso = tiny.built("iso-efi").join("tiny-efi.iso");
    boots(with_disk(&mut pc(scratch), "raw", &iso, "ide-cd"));
    let mut stick = pc(scratch);
    stick.args(["-device", "qemu-xhci"]);
    boots(with_disk(&mut stick, "raw", &iso, "usb-storage"));
}

#[test]
fn kernel_and_root_start_as_files() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::new("mvm/kernel-efi", "hvc0");
    let squashfs = tiny.built("kernel+squashfs");
    let words = fs::read_to_string(squashfs.join("tiny-cmdline")).unwrap();
    let root = format!("{words} root=/dev/vda rootfstype=squashfs ro init=/init");
    let disk = format!("{},ro", squashfs.join("tiny-squashfs.img").display());
    boots(vmm(&squashfs.join("tiny-kernel"), &root).args(["--disk", &disk]));
    // The kernel that mvm starts by itself can do that, too.
    let tiny = Tiny::new("mvm/kernel", "hvc0");
    let ramdisk = tiny.built("kernel+initrd");
    boots(vmm(&ramdisk.join("tiny-kernel"), &words).arg("--initrd").arg(ramdisk.join("tiny-initrd.img")));
}
