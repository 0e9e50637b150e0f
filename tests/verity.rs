//! An appliance whose root is not what was built.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Appliance, Instance, Outcome, layout, run, skipped, unpacked};
use tempfile::TempDir;

/// An instance whose appliance may be damaged: it has a copy of its own.
struct Damaged {
    instance: Instance,
    data: TempDir,
    root: PathBuf,
}

impl Damaged {
    fn new() -> Self {
        Appliance::built();
        let (instance, data) = (Instance::prepared("damaged"), tempfile::tempdir().unwrap());
        let images = data.path().join("mvm/images");
        fs::create_dir_all(&images).unwrap();
        symlink(Instance::data().join("mvm/tools"), data.path().join("mvm/tools")).unwrap();
        let archive = data.path().join("appliance.tar");
        let export = ["image", "export", "mvm/appliance:latest", "--output", archive.to_str().unwrap()];
        instance.mvm(&export).ok();
        // What an archive of an appliance holds is a layout.
        tar::Archive::new(File::open(&archive).unwrap()).unpack(&images).unwrap();
        fs::remove_file(archive).unwrap();
        let mut damaged = Self { instance, data, root: PathBuf::new() };
        let shown: Value =
            serde_json::from_str(&damaged.mvm(&["image", "inspect", "mvm/appliance:latest"]).ok()).unwrap();
        let layers = shown["manifest"]["layers"].as_array().unwrap();
        let of_root = |layer: &&Value| layer["mediaType"].as_str().unwrap().contains(".root.");
        let digest = layers.iter().find(of_root).unwrap()["digest"].as_str().unwrap();
        damaged.root = images.join("blobs").join(digest.replacen(':', "/", 1));
        damaged
    }

    fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(self.instance.command().args(arguments).env("XDG_DATA_HOME", self.data.path()))
    }

    /// Where the first block of a file lies, by what the image's own tools say.
    fn first_block(&self, path: &str) -> u64 {
        let root = unpacked("erofs").root;
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut dump = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        dump.arg("--library-path").arg(&libraries).arg(root.join("usr/bin/dump.erofs"));
        let shown = run(dump.arg(format!("--path={path}")).arg("-e").arg(&self.root)).ok();
        // `   0:        0..  174941 |  174941 :       4096..     69632 |   65536`
        let extent = shown.lines().find(|line| line.trim_start().starts_with("0:"));
        let extent = extent.unwrap_or_else(|| panic!("no extent of {path} in {shown}"));
        let physical = extent.split(':').nth(2).and_then(|rest| rest.split("..").next());
        physical.unwrap().trim().parse().unwrap()
    }

    /// Turns a bit over.
    fn flip(&self, at: u64) {
        let file = File::options().read(true).write(true).open(&self.root).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    fn does_not_start(&self, what: &str) {
        let up = self.mvm(&["up", "damaged"]);
        assert_eq!(up.status, 1, "{what}: {up}");
        for words in ["its root image is damaged: ", "device-mapper: verity: ", " is corrupted"] {
            assert!(up.stderr.contains(words), "expected \"{words}\" after a flipped bit in {what}: {up}");
        }
    }
}

/// What only a build from a repository reads.
const UNREAD: &str = "usr/lib/git-core/git-remote-http";

#[test]
fn one_flipped_bit_stops_the_machine_when_it_is_read() {
    if skipped("verity") {
        return;
    }
    let damaged = Damaged::new();
    let provenance = damaged.mvm(&["image", "explain", &format!("moby:/{UNREAD}")]).ok();
    let in_root = |path: &str| {
        let line = provenance.lines().next().unwrap().trim_start_matches('/');
        let image = line.strip_suffix(UNREAD).unwrap_or_else(|| panic!("{provenance}"));
        format!("/{image}{path}")
    };
    // EROFS' own superblock is at 1024.
    let init = damaged.first_block("/init") + 2000;
    let dockerd = damaged.first_block(&in_root("usr/sbin/dockerd")) + 2000;
    for (what, at) in [("the superblock", 1024 + 8), ("init", init), ("dockerd", dockerd)] {
        damaged.flip(at);
        damaged.does_not_start(what);
        damaged.flip(at);
    }

    damaged.flip(damaged.first_block(&in_root(UNREAD)) + 2000);
    damaged.mvm(&["up", "damaged"]).ok();
    let verify = damaged.mvm(&["image", "verify", "mvm/appliance:latest"]);
    verify.refused(1, "mvm/appliance:latest is damaged: the root image: its digest is sha256:");
    let path = format!("/{UNREAD}");
    let read = damaged.mvm(&["exec", "--service", "moby", "/usr/bin/busybox", "cat", &path]);
    assert_ne!(read.status, 0, "{read}");
    support::eventually("the machine's end", 300, || {
        let status = damaged.mvm(&["status", "--json"]).stdout;
        if status.contains("its root image is damaged") { Ok(()) } else { Err(status) }
    });
}

#[test]
fn what_was_built_is_made_again_the_same() {
    if skipped("verity") {
        return;
    }
    let instance = Instance::prepared("again");
    let verify = |arguments: &[&str]| {
        instance.mvm(&[&["image", "verify", "mvm/appliance:latest", "--rebuild"], arguments].concat())
    };
    let same = verify(&[]);
    assert!(same.stderr.contains("made again, mvm/appliance:latest is the same, byte for byte"), "{same}");
    same.ok();
    a_lock_of_its_own_is_kept(&instance);
    let directory = tempfile::tempdir().unwrap();
    let more = directory.path().join("more.yml");
    fs::write(&more, "files: [{path: etc/more, contents: more}]\n").unwrap();
    let own = Path::new(support::TOP).join("linuxkit.yml");
    verify(&[own.to_str().unwrap(), more.to_str().unwrap()]).refused(
        1,
        "the root of mvm/appliance:latest is not the one that its definition makes here; the first file that \
         differs is /etc/more: it is only in what was made",
    );
}

/// What an appliance was made with goes with it: it is made again where neither its definition nor its lock is.
fn a_lock_of_its_own_is_kept(instance: &Instance) {
    let directory = tempfile::tempdir().unwrap();
    let image = layout("test/locked:1", &json!({"Entrypoint": ["/bin/busybox"]}));
    instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    let path = |name: &str| directory.path().join(name);
    let text = "kernel: {image: mvm/kernel, cmdline: root=/dev/vda}\ninit: [mvm/init, 'test/locked:1']\n";
    fs::write(path("locked.yml"), text).unwrap();
    // One that names its image, and else what mvm's own names.
    let own = fs::read_to_string(Path::new(support::TOP).join("linuxkit.lock")).unwrap();
    let shown: Value =
        serde_json::from_str(&instance.mvm(&["image", "inspect", "test/locked:1"]).ok()).unwrap();
    let digest = shown["digest"].as_str().unwrap();
    fs::write(path("locked.lock"), format!("{own}images:\n  test/locked:1: {digest}\n")).unwrap();
    instance.mvm(&["image", "build", "--name", "test-locked", path("locked.yml").to_str().unwrap()]).ok();

    let host = path("host.yml");
    fs::write(&host, "files: [{path: etc/host, source: locked.yml}]\n").unwrap();
    let both = [
        "image",
        "build",
        "--name",
        "test-host",
        path("locked.yml").to_str().unwrap(),
        host.to_str().unwrap(),
    ]
    .map(str::to_owned);
    instance.mvm(&both.each_ref().map(String::as_str)).ok();
    let again = instance.mvm(&["image", "verify", "test-host", "--rebuild"]);
    again.refused(
        1,
        "test-host has a file of the host in it that it was made on, /etc/host, and cannot be made again",
    );

    let archive = path("locked.tar");
    instance.mvm(&["image", "export", "test-locked", "--output", archive.to_str().unwrap()]).ok();
    for name in ["locked.yml", "locked.lock"] {
        fs::remove_file(path(name)).unwrap();
    }
    instance.mvm(&["image", "rm", "test-locked"]).ok();
    let imported = instance.mvm(&["image", "import", archive.to_str().unwrap()]).ok();
    assert!(imported.starts_with("test-locked sha256:") && !imported.contains("(image)"), "{imported}");
    let same = instance.mvm(&["image", "verify", "test-locked", "--rebuild"]);
    assert!(same.stderr.contains("made again, test-locked is the same, byte for byte"), "{same}");
    same.ok();
}
