//! Builds the real appliance. The first run on a machine compiles a kernel, which takes minutes; what it fetches and
//! compiles stays in the user's cache (`$XDG_CACHE_HOME/mvm`), as a build of `mvm up` would leave it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use images::progress::Event;
use images::{Appliance, DEFAULT_REFERENCE, Directories, Guest, Pins, Request, Source, Store};

/// The largest root image that is acceptable.
const MAX_ROOT: u64 = 110 * 1_000_000;

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.unwrap_or_else(|| std::env::home_dir().expect("a home directory").join(".cache"));
    base.join("mvm")
}

fn build(directories: &Directories, source: Source, stages: &Mutex<Vec<String>>) -> Appliance {
    let progress = |event: &Event<'_>| match event {
        Event::Started { stage, .. } => stages.lock().unwrap().push((*stage).to_owned()),
        Event::Ended { stage, took } => eprintln!("{stage}: {:.1} s", took.as_secs_f64()),
        Event::Said { line, .. } => eprintln!("{line}"),
        Event::Advanced { .. } => {}
    };
    let request = Request {
        source,
        guest: Guest { binary: b"in place of the guest binary", crates: "" },
        directories,
        pins: Pins::RelockIfGone,
        verified: true,
        reference: DEFAULT_REFERENCE,
        progress: &progress,
    };
    images::build(&request).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

#[test]
fn slow_the_appliance_is_built_once_and_always_the_same() {
    let data = tempfile::tempdir().unwrap();
    let directories = Directories { data: data.path().join("a"), cache: cache() };
    let stages = Mutex::new(Vec::new());
    let made = build(&directories, Source::Embedded, &stages);

    let kernel = fs::read(&made.kernel).unwrap();
    assert_eq!(&kernel[..4], b"\x7fELF", "the kernel is not an uncompressed vmlinux");
    let root = fs::metadata(&made.root).unwrap().len();
    eprintln!("kernel {} bytes, root image {root} bytes", kernel.len());
    assert!(root <= MAX_ROOT, "the root image has {root} bytes, more than {MAX_ROOT}");
    assert!(made.cmdline.contains("init=/init"), "{}", made.cmdline);

    stages.lock().unwrap().clear();
    assert_eq!(build(&directories, Source::Embedded, &stages), made);
    assert!(stages.lock().unwrap().is_empty(), "a second build did something: {stages:?}");
    let found = Store::open(&directories.images()).unwrap().find(DEFAULT_REFERENCE).unwrap();
    assert_eq!(found.as_ref(), Some(&made));

    // Somewhere else, from the same packages: the same bytes.
    let elsewhere = Directories { data: data.path().join("b"), cache: cache() };
    assert_eq!(build(&elsewhere, Source::Embedded, &stages).digest, made.digest);

    self_tests_run(&directories, &made, data.path());
}

#[test]
fn slow_files_of_a_definition_keep_their_owners() {
    let data = tempfile::tempdir().unwrap();
    let directories = Directories { data: data.path().join("a"), cache: cache() };
    let definition = data.path().join("my.yml");
    let text = "kernel: {image: mvm/kernel}
init: [mvm/init]
files:
  - {path: etc/owned, contents: x, mode: '0640', uid: 1000, gid: 100}
  - {path: bin/below-a-link, contents: x, mode: '0755'}
";
    fs::write(&definition, text).unwrap();
    let made = build(&directories, Source::from(definition), &Mutex::default());

    let described = |path: &str| {
        let mut dump = erofs_utils(&directories, "dump.erofs");
        let output = dump.arg(format!("--path={path}")).arg(&made.root).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let owned = described("/etc/owned");
    assert!(owned.contains("Uid: 1000   Gid: 100  Access: 0640/"), "{owned}");
    for path in ["/", "/etc", "/usr/bin/runc", "/usr/bin/below-a-link"] {
        let described = described(path);
        assert!(described.contains("Uid: 0   Gid: 0  Access: "), "{path}: {described}");
    }
}

/// A program of the package of EROFS.
fn erofs_utils(directories: &Directories, program: &str) -> Command {
    let tool =
        images::tools::ensure("erofs", directories, images::Pins::Exact, &images::progress::Silent).unwrap();
    let [loader @ .., _fsck] = tool.command.as_slice() else { panic!("no command") };
    let mut command = Command::new(&loader[0]);
    command.args(&loader[1..]).arg(tool.root.join("usr/bin").join(program));
    command
}

/// Every program of the self-test echoes under the emulator that the image brings for it.
fn self_tests_run(directories: &Directories, made: &Appliance, scratch: &Path) {
    let root = scratch.join("root");
    let status = erofs_utils(directories, "fsck.erofs")
        .arg(format!("--extract={}", root.display()))
        .arg(&made.root)
        .status()
        .unwrap();
    assert!(status.success(), "the root image could not be extracted");
    let root = root.join("containers/onboot/001-binfmt/rootfs");
    for (platform, emulator) in [
        ("amd64", None),
        ("386", None),
        ("arm64", Some("aarch64")),
        ("arm-v7", Some("arm")),
        ("arm-v6", Some("arm")),
        ("riscv64", Some("riscv64")),
        ("ppc64le", Some("ppc64le")),
        ("s390x", Some("s390x")),
        ("loong64", Some("loongarch64")),
    ] {
        let program = root.join(format!("selftest/linux-{platform}"));
        let mut command = match emulator {
            Some(emulator) => {
                let mut command = Command::new(root.join(format!("usr/bin/qemu-{emulator}")));
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        assert_eq!(echo(&mut command), b"a nonce", "{platform}");
    }
    let mut old = Command::new(root.join("usr/bin/qemu-arm"));
    old.args(["-cpu", "arm1136"]).arg(root.join("selftest/linux-arm-v7")).stderr(Stdio::null());
    assert_eq!(echo(&mut old), b"", "the ARMv7 program runs on an ARMv6 processor");
}

fn echo(command: &mut Command) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // One that dies at once closes its input first.
    let _ = child.stdin.take().unwrap().write_all(b"a nonce");
    child.wait_with_output().unwrap().stdout
}
