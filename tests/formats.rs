//! `mvm image build --format`: every format of a small appliance, the same bytes each time, and booted as other machines do.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{
    Instance, MVM, behind, eventually, layout, layout_with, rig_files, run, skipped, start, unpacked,
};
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
        Self::with(&json!({"image": kernel, "cmdline": format!("console={console} quiet panic=-1")}))
    }

    /// With Debian's kernel in an image, which starts anywhere, but has nothing built in that a root disk takes.
    fn of_debian(console: &str) -> Self {
        let kernel = fs::read(rig_files().join("vmlinuz")).unwrap();
        let image = layout_with("test/debian:1", &json!({}), &[("boot/vmlinuz", &kernel)]);
        let cmdline = format!("console={console} quiet panic=-1");
        let tiny = Self::with(
            &json!({"image": "test/debian:1", "binary": "boot/vmlinuz", "tar": "none", "cmdline": cmdline}),
        );
        tiny.instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
        tiny
    }

    fn with(kernel: &Value) -> Self {
        let (instance, directory) = (Instance::bare("formats"), tempfile::tempdir().unwrap());
        let image = layout("test/tiny:1", &json!({"Entrypoint": ["/bin/busybox", "sh", "-c"]}));
        instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
        let definition = json!({
            "kernel": kernel,
            "init": ["mvm/init"],
            "onboot": [{
                "name": "say",
                "image": "test/tiny:1",
                // Not every kernel has an overlay built in.
                "readonly": true,
                "command": [
                    "/bin/busybox", "sh", "-c",
                    "echo the answer is $((6 * 7)) > /dev/console; /bin/busybox cat /lib/modules/* > /dev/console; \
                     /bin/busybox poweroff -f",
                ],
                "binds": ["/usr/lib:/lib:ro"],
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

/// What a build of somebody else's stands behind.
const ANOTHER: [&str; 10] = [
    "unshare",
    "--map-user=1234",
    "--map-group=1234",
    "taskset",
    "--cpu-list",
    "0",
    "sh",
    "-c",
    "umask 077; exec \"$@\"",
    "sh",
];

/// Runs a machine that ends itself; one that hangs is ended after ten minutes, which is a failure.
fn boots(machine: &Command) -> String {
    let outcome = run(&mut behind(&["timeout", "600"], machine));
    assert!(outcome.stdout.contains(SAID), "{outcome}");
    outcome.ok()
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
    let tiny = Tiny::of_debian("ttyS0");
    // Packages and kernels are what the lock says they are; of what builds have unpacked there is nothing.
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("mvm")).unwrap();
    for name in ["packages", "kernels"] {
        symlink(Instance::cache().join("mvm").join(name), cache.path().join("mvm").join(name)).unwrap();
    }
    for (format, names) in FORMATS {
        let first = files(&tiny.built(format));
        assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "{format}");
        let again = tiny.path("again");
        fs::create_dir(&again).unwrap();
        // Another user, umask, time zone and language, one processor, nothing unpacked before, a scratch directory of another
        // name, and what others make builds the same with.
        let mut other = behind(&ANOTHER, &tiny.build(format, &again));
        other.env("TZ", "Pacific/Auckland").env("LC_ALL", "C").env("SOURCE_DATE_EPOCH", "1");
        run(other.env("XDG_CACHE_HOME", cache.path())).ok();
        assert!(files(&again) == first, "{format} is not the same: {first:?} {:?}", files(&again));
        fs::remove_dir_all(&again).unwrap();
    }
}

#[test]
#[ignore = "compiles a second kernel"]
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
#[ignore = "compiles a second kernel"]
fn a_kernel_and_its_root_start_as_files() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::new("mvm/kernel-efi", "hvc0");
    let squashfs = tiny.built("kernel+squashfs");
    let words = fs::read_to_string(squashfs.join("tiny-cmdline")).unwrap();
    let root = format!("{words} root=/dev/vda rootfstype=squashfs ro init=/init");
    let disk = format!("{},ro", squashfs.join("tiny-squashfs.img").display());
    boots(vmm(&squashfs.join("tiny-kernel"), &root).args(["--disk", &disk]));
}

#[test]
fn a_kernel_and_its_ramdisk_start_as_files() {
    if skipped("formats") {
        return;
    }
    // The kernel that mvm starts by itself can do that, too.
    let tiny = Tiny::new("mvm/kernel", "hvc0");
    let ramdisk = tiny.built("kernel+initrd");
    let words = fs::read_to_string(ramdisk.join("tiny-cmdline")).unwrap();
    boots(vmm(&ramdisk.join("tiny-kernel"), &words).arg("--initrd").arg(ramdisk.join("tiny-initrd.img")));
}

#[test]
fn a_disc_with_a_kernel_of_others_starts_on_a_machine_with_efi() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::of_debian("ttyS0");
    let iso = tiny.built("iso-efi").join("tiny-efi.iso");
    boots(with_disk(&mut pc(tiny.directory.path()), "raw", &iso, "ide-cd"));
}

#[test]
#[ignore = "compiles a second kernel"]
fn a_kernel_of_an_image_starts_with_its_modules_and_its_microcode() {
    if skipped("formats") {
        return;
    }
    // Any kernel is one of somebody else's in an image of another name.
    let own = Tiny::new("mvm/kernel-efi", "hvc0");
    let kernel = fs::read(own.built("kernel+erofs").join("tiny-kernel")).unwrap();
    let modules = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(10);
        archive.append_data(&mut header, "lib/modules/x", &b"a module x"[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let microcode = vec![0; 512];
    let files = [("boot/vmlinuz", &kernel[..]), ("kernel.tar", &modules), ("early.cpio", &microcode)];
    let image = layout_with("test/kernel:1", &json!({}), &files);
    own.instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();

    let cmdline = "console=hvc0 quiet panic=-1";
    let tiny = Tiny::with(&json!({"image": "test/kernel:1", "binary": "boot/vmlinuz", "cmdline": cmdline}));
    let definition = tiny.path("tiny.yml");
    let build = ["image", "build", "--json", "--name", "test-foreign", definition.to_str().unwrap()];
    let made: Value = serde_json::from_str(&tiny.instance.mvm(&build).ok()).unwrap();
    let path = |part: &str| Path::new(made[part].as_str().unwrap()).to_owned();
    let words = format!("{cmdline} root=/dev/vda rootfstype=erofs ro init=/init");
    let disk = format!("{},ro", path("root").display());
    let printed = boots(vmm(&path("kernel"), &words).args(["--disk", &disk]));
    assert!(printed.contains("a module x"), "{printed}");

    let kernel = json!({"image": "test/kernel:1", "binary": "boot/vmlinuz", "ucode": "early.cpio"});
    let tiny = Tiny::with(&kernel);
    let ramdisk = tiny.built("kernel+initrd");
    let initrd = ramdisk.join("tiny-initrd.img");
    assert!(fs::read(&initrd).unwrap().starts_with(&[&microcode[..], &[0x1f, 0x8b]].concat()));
    boots(vmm(&ramdisk.join("tiny-kernel"), cmdline).arg("--initrd").arg(initrd));
    let stored = tiny.instance.mvm(&["image", "build", tiny.path("tiny.yml").to_str().unwrap()]);
    stored.refused(
        1,
        "microcode comes before an initial ramdisk, and kernel+erofs has none; leave out kernel.ucode",
    );
}

#[test]
fn the_root_is_an_image_that_is_taken_over_again() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::of_debian("ttyS0");
    let archive = tiny.built("docker").join("tiny.docker");
    let imported = tiny.instance.mvm(&["image", "import", archive.to_str().unwrap()]).ok();
    assert!(imported.starts_with("tiny:latest sha256:"), "{imported}");
    // What `docker load` reads, where Docker keeps images by itself.
    let mut entries = tar::Archive::new(fs::File::open(&archive).unwrap());
    let manifest = entries
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().as_os_str() == "manifest.json");
    let manifest: Value = serde_json::from_reader(manifest.expect("a manifest.json")).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["tiny:latest"]));
    // On standard output there is the archive alone.
    let path = archive.with_file_name("stdout");
    let mut command = tiny.build("docker", Path::new("-"));
    let status = command.stdout(fs::File::create(&path).unwrap()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    assert!(fs::read(&path).unwrap() == fs::read(&archive).unwrap());
}

/// What is in an archive, in its order.
fn names(archive: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries.map(|entry| entry.path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn archives_hold_what_linuxkits_do() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::of_debian("ttyS0");
    let all = names(&tiny.built("tar").join("tiny.tar"));
    let boot: Vec<_> = all.iter().filter(|name| name.starts_with("boot/")).collect();
    assert_eq!(boot, ["boot/", "boot/cmdline", "boot/kernel"]);
    for name in ["init", "containers/onboot/000-say/config.json"] {
        assert!(all.iter().any(|each| each == name), "{name} is not in {all:?}");
    }
    let three = names(&tiny.built("tar-kernel-initrd").join("tiny-initrd.tar"));
    assert_eq!(three, ["kernel", "initrd.img", "cmdline"]);
}

#[test]
fn what_cannot_be_made_is_refused_by_its_name_and_nothing_is_left_of_what_was_begun() {
    if skipped("formats") {
        return;
    }
    let tiny = Tiny::new("mvm/kernel", "ttyS0");
    let here = tiny.path("out");
    fs::create_dir(&here).unwrap();
    let refused = |format: &str, status, message: &str| {
        run(&mut tiny.build(format, &here)).refused(status, message);
        assert_eq!(files(&here), [], "{format}");
    };
    refused("raw-bios", 2, "invalid value 'raw-bios' for '--format <FORMAT>'");
    refused("raw-bios", 2, "[possible values: kernel+erofs, kernel+squashfs, kernel+initrd, tar, ");
    for (format, option) in [("iso-efi", "CONFIG_EFI_STUB"), ("kernel+squashfs", "CONFIG_SQUASHFS")] {
        let expected = format!(
            "the kernel mvm/kernel has no {option}, which {format} needs; mvm's own kernel that has it is \
             kernel.image: mvm/kernel-efi"
        );
        refused(format, 1, &expected);
    }

    let making = start(&mut tiny.build("kernel+initrd", &here));
    eventually("a beginning", 300, || match fs::read_dir(&here).unwrap().next() {
        Some(_) => Ok(()),
        None => Err("nothing yet".to_owned()),
    });
    making.signal("INT");
    let outcome = making.outcome();
    assert_eq!(outcome.status, 130, "{outcome}");
    assert_eq!(files(&here), []);
}
