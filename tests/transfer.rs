//! Images between a registry and the layout: `mvm image pull` and `push`, against Debian's docker-registry and over
//! connections that break.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Instance, Outcome, Proxy, Registry, behind, layout, run};
use tempfile::TempDir;

/// A machine that has nothing yet.
struct Host {
    instance: Instance,
    data: TempDir,
}

impl Host {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { instance: Instance::bare("transfer"), data }
    }

    /// One that has the image `name`.
    fn with(name: &str) -> Self {
        let host = Self::new();
        let image = layout(name, &json!({"Cmd": ["/bin/busybox"]}));
        host.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
        host
    }

    fn command(&self) -> Command {
        let mut command = self.instance.command();
        command.env("XDG_DATA_HOME", self.data.path());
        command
    }

    fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(self.command().args(arguments))
    }

    fn images(&self) -> PathBuf {
        self.data.path().join("mvm/images")
    }

    /// What `image inspect` says.
    fn inspect(&self, name: &str) -> Value {
        serde_json::from_str(&self.mvm(&["image", "inspect", name]).ok()).unwrap()
    }

    /// The digest of an image's only layer.
    fn layer(&self, name: &str) -> String {
        self.inspect(name)["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned()
    }

    /// The downloads that are not whole.
    fn incoming(&self) -> Vec<(String, u64)> {
        let found = fs::read_dir(self.images().join("incoming"));
        let file =
            |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len());
        found.map(|all| all.flatten().map(file).collect()).unwrap_or_default()
    }

    fn has_nothing(&self) {
        assert_eq!(self.mvm(&["image", "ls"]).ok(), "");
    }
}

/// A registry with an image in it, and the host that pushed it.
fn pushed(name: &str) -> (Registry, Host, String) {
    let (registry, host) = (Registry::open(), Host::with(name));
    let there = registry.image(name);
    host.mvm(&["image", "push", name, &there]).ok();
    (registry, host, there)
}

#[test]
fn what_is_pushed_comes_back_the_same() {
    let (_registry, here, there) = pushed("greeter:1");
    let pushed = here.mvm(&["image", "push", "greeter:1", &there]).ok();
    let elsewhere = Host::new();
    let pulled = elsewhere.mvm(&["image", "pull", &there]);
    assert!(pulled.stderr.contains(&format!("pull {there}: done in ")), "{pulled}");
    assert_eq!(pulled.ok(), pushed);
    assert_eq!(elsewhere.mvm(&["image", "ls"]).ok(), format!("{} (image)\n", pushed.trim()));
    let (mut one, mut other) = (here.inspect("greeter:1"), elsewhere.inspect(&there));
    for shown in [&mut one, &mut other] {
        shown["name"].take();
    }
    assert_eq!(one, other);
    assert_eq!(elsewhere.incoming(), []);

    // By its digest, and without anything to bring.
    let digest = one["digest"].as_str().unwrap();
    let named = format!("{}@{digest}", there.trim_end_matches(":1"));
    let again = elsewhere.mvm(&["image", "pull", "--json", &named]);
    assert!(!again.stderr.contains("done in"), "{again}");
    let again: Value = serde_json::from_str(&again.ok()).unwrap();
    assert_eq!(again[0], json!({"name": named, "digest": digest}));
    elsewhere.mvm(&["image", "push", &named]).refused(1, "a name with a digest is a name of what is there");
}

#[test]
fn what_a_registry_has_not_is_named() {
    let (registry, host, _) = pushed("greeter:1");
    let none = registry.image("greeter:2");
    host.mvm(&["image", "pull", &none])
        .refused(1, &format!("{none} is not in the registry {}; check the name", registry.address()));
    host.mvm(&["image", "pull", "127.0.0.1:1/x"]).refused(1, "cannot reach the registry 127.0.0.1:1 for ");
    host.mvm(&["image", "push", "other", &none]).refused(1, "there is no other; `mvm image ls` shows");
    host.mvm(&["image", "pull", "UPPER"]).refused(2, "\"UPPER\" is not the name of an image");
}

#[test]
fn a_broken_connection_is_gone_on_with() {
    let (registry, host, _) = pushed("greeter:1");
    let size = fs::metadata(registry.blob(&host.layer("greeter:1"))).unwrap().len();
    let proxy = Proxy::to(registry.port, 300 << 10, u64::MAX);
    let elsewhere = Host::new();
    elsewhere.mvm(&["image", "pull", &proxy.image("greeter:1")]).ok();
    assert!(size > 3 * (300 << 10), "one connection could have done it: {size}");
    let passed = proxy.answered();
    assert!((size..size + (200 << 10)).contains(&passed), "{passed} for {size}: something came twice");
}

#[test]
fn what_has_come_is_kept_for_the_next_pull() {
    let (registry, host, _) = pushed("greeter:1");
    let digest = host.layer("greeter:1");
    let size = fs::metadata(registry.blob(&digest)).unwrap().len();
    let proxy = Proxy::to(registry.port, u64::MAX, 500 << 10);
    let elsewhere = Host::new();
    let name = proxy.image("greeter:1");
    let lost = elsewhere.mvm(&["image", "pull", &name]);
    lost.refused(1, &format!("the connection to 127.0.0.1:{} broke off at ", proxy.port));
    lost.refused(
        1,
        &format!(", a part of {name}, again and again; what has come is kept, and the next pull"),
    );
    elsewhere.has_nothing();
    let incoming = elsewhere.incoming();
    let part = incoming.iter().find(|(file, _)| digest.ends_with(file));
    let (_, have) = part.unwrap_or_else(|| panic!("nothing of {digest} in {incoming:?}"));
    assert!(*have > 100 << 10, "{have}");

    let before = proxy.answered();
    proxy.allow(u64::MAX / 2);
    elsewhere.mvm(&["image", "pull", &name]).ok();
    let passed = proxy.answered() - before;
    assert!(passed < size - have + (100 << 10), "{passed} of {size}, of which {have} were there");
    assert_eq!(elsewhere.incoming(), []);
}

#[test]
fn a_layer_that_is_cut_off_in_the_registry_is_refused() {
    let (registry, host, there) = pushed("greeter:1");
    let digest = host.layer("greeter:1");
    let file = fs::File::options().write(true).open(registry.blob(&digest)).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(1000).unwrap();
    let elsewhere = Host::new();
    elsewhere.mvm(&["image", "pull", &there]).refused(
        1,
        &format!(
            "the registry {} has only 1000 of the {size} bytes of {digest}, a part of {there}; whoever",
            registry.address()
        ),
    );
    elsewhere.has_nothing();
}

#[test]
fn a_layer_that_is_another_is_refused_and_nothing_of_it_stays() {
    let (registry, host, there) = pushed("greeter:1");
    let digest = host.layer("greeter:1");
    flip(&registry.blob(&digest));
    let elsewhere = Host::new();
    let refused = elsewhere.mvm(&["image", "pull", &there]);
    let address = registry.address();
    refused.refused(1, &format!("the registry {address} gave something else for a part of {there}: "));
    refused.refused(1, &format!("what came as {digest} is sha256:"));
    elsewhere.has_nothing();
    assert_eq!(elsewhere.incoming(), []);
    flip(&registry.blob(&digest));
    elsewhere.mvm(&["image", "pull", &there]).ok();
}

#[test]
fn imagetools_takes_nothing_that_is_another() {
    let (registry, host, there) = pushed("greeter:1");
    let manifest = host.inspect("greeter:1")["manifest"].take();
    let blob = |content: &Value| registry.blob(content["digest"].as_str().unwrap());
    let inspect = ["imagetools", "inspect", "--format", "{{json .Image}}", &there];
    host.mvm(&inspect).ok();
    flip(&blob(&manifest["config"]));
    host.mvm(&inspect).refused(1, "Invalid digest");
    flip(&blob(&manifest["config"]));
    flip(&blob(&manifest["layers"][0]));
    let elsewhere = Registry::open();
    let copy = elsewhere.image("copy:1");
    let create = ["imagetools", "create", "-t", &copy, &there];
    host.mvm(&create).refused(1, "Invalid digest");
    host.mvm(&["imagetools", "inspect", &copy]).refused(1, &format!("{copy} is not in the registry "));
    flip(&blob(&manifest["layers"][0]));
    host.mvm(&create).ok();
    host.mvm(&["imagetools", "create", "--dry-run=false", &there]).refused(2, "give one with -t");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    let (_registry, host, there) = pushed("greeter:1");
    let elsewhere = Host::new();
    let script = r#"mount -t tmpfs -o size=600k none "$0" && { "$@"; status=$?; find "$0" -path '*incoming/*'; exit $status; }"#;
    let mut pull = elsewhere.command();
    pull.args(["image", "pull", &there]);
    let data = elsewhere.data.path().to_str().unwrap();
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, data];
    let outcome = run(&mut behind(&words, &pull));
    outcome.refused(1, &format!("cannot keep a part of {there}: cannot write "));
    outcome.refused(1, "No space left on device");
    let layer = host.layer("greeter:1");
    assert!(!outcome.stdout.contains(layer.trim_start_matches("sha256:")), "it fills the disk: {outcome}");
}

#[test]
fn a_registry_that_wants_a_login_gets_that_of_the_docker_configuration() {
    let (registry, host) = (Registry::with_login(), Host::with("greeter:1"));
    let there = registry.image("greeter:1");
    let refusal = format!("the registry {} refuses {there}: it wants a login", registry.address());
    host.mvm(&["image", "push", "greeter:1", &there]).refused(1, &refusal);
    host.mvm(&["image", "pull", &there]).refused(1, &refusal);
    // user:secret
    let config = json!({"auths": {(registry.address()): {"auth": "dXNlcjpzZWNyZXQ="}}});
    fs::write(host.instance.home().join("c/config.json"), config.to_string()).unwrap();
    host.mvm(&["image", "push", "greeter:1", &there]).ok();
    host.mvm(&["image", "pull", &there]).ok();
}

#[test]
fn a_mirror_is_asked_first_and_its_registry_after_it() {
    let (mirror, host, _) = pushed("greeter:1");
    let original = Registry::open();
    let (given, to) = (mirror.address(), original.address());
    let argument = format!("{to}={given}");
    let there = original.image("greeter:1");
    let elsewhere = Host::new();
    let pulled = elsewhere.mvm(&["image", "pull", "--mirror", &argument, &there]).ok();
    assert!(pulled.starts_with(&format!("{there} sha256:")), "it has the registry's name: {pulled}");

    host.mvm(&["image", "push", "greeter:1", &original.image("greeter:2")]).ok();
    let other = original.image("greeter:2");
    let mut command = elsewhere.command();
    let both = run(command.args(["image", "pull", &other]).env("MVM_REGISTRY_MIRRORS", &argument));
    assert!(both.stderr.contains(&format!("is not in the registry {given}")), "{both}");
    assert!(both.stderr.contains(&format!("; asking {to} next")), "{both}");
    both.ok();
    elsewhere
        .mvm(&["image", "pull", "--mirror", "http://x", &there])
        .refused(2, "\"http://x\" is no mirror; write HOST[:PORT]");
}

#[test]
fn an_image_for_several_platforms_comes_for_this_one_and_goes_whole() {
    let (registry, host) = (Registry::open(), Host::new());
    let image = layout("greeter:1", &json!({"Cmd": ["/bin/busybox"]}));
    of_two_platforms(image.path());
    host.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    let there = registry.image("greeter:1");
    host.mvm(&["image", "push", "greeter:1", &there]).ok();

    let elsewhere = Host::new();
    elsewhere.mvm(&["image", "pull", &there]).ok();
    let to = registry.image("greeter:2");
    let partial = elsewhere.mvm(&["image", "push", &there, &to]);
    partial.refused(1, &format!("of {there} only the part for this machine's platform is here; `mvm image"));
    elsewhere.mvm(&["image", "pull", "--all-platforms", &there]).ok();
    elsewhere.mvm(&["image", "push", &there, &to]).ok();
    let shown = host.mvm(&["imagetools", "inspect", &to]).ok();
    assert!(shown.contains("linux/amd64") && shown.contains("linux/s390x"), "{shown}");
}

/// Puts an index over the one manifest, with a second one for another platform.
fn of_two_platforms(layout: &Path) {
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &Value| {
        layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
    };
    let put =
        |media_type: &str, value: &Value| support::put(layout, media_type, value.to_string().as_bytes());
    let mut index = read(layout.join("index.json"));
    let mut one = index["manifests"][0].clone();
    let name = one.as_object_mut().unwrap().remove("annotations").unwrap();
    let mut manifest = read(blob(&one["digest"]));
    let mut config = read(blob(&manifest["config"]["digest"]));
    config["architecture"] = "s390x".into();
    manifest["config"] = put(manifest["config"]["mediaType"].as_str().unwrap(), &config);
    let mut other = put(one["mediaType"].as_str().unwrap(), &manifest);
    one["platform"] =
        json!({"os": "linux", "architecture": std::env::consts::ARCH.replace("x86_64", "amd64")});
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut both = put(kind, &json!({"schemaVersion": 2, "mediaType": kind, "manifests": [one, other]}));
    both["annotations"] = name;
    index["manifests"] = json!([both]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// A layout with an appliance that could not boot.
fn appliance() -> TempDir {
    let layout = tempfile::tempdir().unwrap();
    let top = layout.path();
    fs::create_dir_all(top.join("blobs/sha256")).unwrap();
    let part = |kind: &str, contents: &str| {
        support::put(top, &format!("application/vnd.mvm.{kind}"), contents.as_bytes())
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "artifactType": "application/vnd.mvm.appliance.v1",
        "config": part("appliance.config.v1+json", "{}"),
        "layers": [
            part("kernel.v1+elf", "kernel"), part("root.v1+erofs", "root"), part("cmdline.v1+text", "quiet"),
        ],
    });
    let mut manifest = support::put(top, kind, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "own"});
    fs::write(top.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    layout
}

#[test]
fn a_signature_goes_with_its_appliance_and_is_asked_for_where_a_key_is_trusted() {
    let (registry, here) = (Registry::open(), Host::new());
    here.mvm(&["image", "import", appliance().path().to_str().unwrap()]).ok();
    let keys = tempfile::tempdir().unwrap();
    let (secret, public) = (keys.path().join("release"), keys.path().join("release.pub"));
    let made = here.mvm(&["image", "key", secret.to_str().unwrap()]).ok();
    assert_eq!(made.trim(), public.to_str().unwrap());
    let there = registry.image("own:1");
    here.mvm(&["image", "push", "own", &there]).ok();

    let elsewhere = Host::new();
    elsewhere.mvm(&["image", "pull", &there]).ok();
    let verify = ["image", "verify", &there];
    let unsigned = elsewhere.mvm(&verify).ok();
    assert!(unsigned.contains("5 contents, "), "{unsigned}");
    assert!(unsigned.ends_with("no key is trusted: signatures were not looked at\n"), "{unsigned}");
    let trusted = elsewhere.instance.home().join("c/mvm/keys");
    fs::create_dir_all(&trusted).unwrap();
    fs::copy(&public, trusted.join("release.pub")).unwrap();
    let refusal =
        format!("the appliance {there} is not trusted: it is signed by none of the keys release.pub, and");
    elsewhere.mvm(&verify).refused(1, &refusal);

    here.mvm(&["image", "sign", "own", "--key", secret.to_str().unwrap()]).ok();
    here.mvm(&["image", "push", "own", &there]).ok();
    elsewhere.mvm(&["image", "pull", &there]).ok();
    let signed = elsewhere.mvm(&verify).ok();
    assert!(signed.ends_with("signed with release.pub\n"), "{signed}");
    let listed = elsewhere.mvm(&["image", "ls"]).ok();
    assert_eq!(listed.lines().count(), 1, "a signature is no image: {listed}");

    // As one file, too.
    let file = keys.path().join("own.tar");
    elsewhere.mvm(&["image", "export", &there, "--output", file.to_str().unwrap()]).ok();
    let third = Host::new();
    third.mvm(&["image", "import", "--name", "third", file.to_str().unwrap()]).ok();
    let json = third.mvm(&["image", "verify", "third", "--json", "--key", public.to_str().unwrap()]).ok();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["signed_by"], "release.pub");

    // A name that is taken away leaves contents that nothing leads to.
    third.mvm(&["image", "rm", "third"]).ok();
    let pruned = third.mvm(&["image", "prune", "--json"]).ok();
    let pruned: Vec<Value> = serde_json::from_str(&pruned).unwrap();
    assert!(!pruned.is_empty() && pruned.iter().all(|each| each["kind"] == "content"), "{pruned:?}");
    third.has_nothing();
    let contents = fs::read_dir(third.images().join("blobs/sha256")).unwrap().count();
    assert_eq!(contents, 0, "its signature goes with it");
}
