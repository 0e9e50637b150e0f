//! An appliance of one's own: the one that mvm carries, and containers of somebody else's image.

mod support;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use support::{Instance, Options, Registry, TOP, eventually, layout, run, skipped};

const MORE: &str = "
volumes:
  - name: data
  - {name: base, image: IMAGE, readonly: true}
onboot:
  - name: seed
    image: IMAGE
    command: [/bin/busybox, sh, -c, 'echo sown > /data/x; echo x > /base/x || /bin/busybox ls /base']
    binds: ['data:/data']
    mounts: [{type: bind, source: base, destination: /base, options: [bind, ro]}]
  - name: step
    image: IMAGE
    command: [/bin/busybox, sh, -c, 'echo once as $(/bin/busybox id -u):$(/bin/busybox id -g)']
    uid: greeter
    gid: 7
onshutdown:
  - name: last
    image: IMAGE
    command: [/bin/busybox, sh, -c, 'echo of the greeter there is $(/bin/busybox ps | /bin/busybox grep -c [s]leep)']
    pid: host
services:
  - name: greeter
    image: IMAGE
    env: [GREETING=hello, WHO=you]
    binds: ['data:/data:ro']
    readonly: true
";

/// What one host builds of an image in a registry, locked, and pushes there, another one boots by its name.
#[test]
fn an_appliance_of_a_registrys_image_boots_from_a_registry() {
    if skipped("appliance") {
        return;
    }
    let (instance, registry) = (Instance::prepared("own"), Registry::open());
    let directory = tempfile::tempdir().unwrap();
    let said = "echo $GREETING $WHO from $PWD; /bin/busybox cat /data/x; echo x > /room/x || echo nothing is written; /bin/busybox sleep 86400";
    let config = json!({
        "Entrypoint": ["/bin/busybox", "sh", "-c"], "Cmd": [said],
        "Env": ["GREETING=other"], "WorkingDir": "/room",
    });
    let (image, own) = (registry.image("greeter:1"), registry.image("own:1"));
    let digest = pushed(&instance, &image, &config);
    let more = directory.path().join("more.yml");
    fs::write(&more, MORE.replace("IMAGE", &image)).unwrap();
    let lock = |digest: &str| {
        let lock = fs::read_to_string(format!("{TOP}/linuxkit.lock")).unwrap();
        fs::write(more.with_extension("lock"), format!("{lock}images:\n  {image}: {digest}\n")).unwrap();
    };
    let base = format!("{TOP}/linuxkit.yml");
    let build = ["image", "build", "--name", "test-own", &base, more.to_str().unwrap()];
    lock(&format!("sha256:{}", "0".repeat(64)));
    instance.mvm(&build).refused(1, &format!("@sha256:{} is not in the registry ", "0".repeat(64)));
    lock(&digest);
    let made = instance.mvm(&build).ok();
    assert_eq!(instance.mvm(&build).ok(), made, "it is the same");
    let listed = instance.mvm(&["image", "ls"]).ok();
    assert!(listed.contains(&made), "{listed}");
    assert!(listed.contains(&format!("@{digest} {digest} (image)")), "{listed}");
    let pushed = instance.mvm(&["image", "push", "test-own", &own]).ok();
    assert_eq!(pushed.replace(&own, "test-own"), made);

    // Nothing of Debian's is asked for there, and no compiler.
    let programs = tempfile::tempdir().unwrap();
    for program in ["unshare", "true"] {
        let path = run(Command::new("which").arg(program)).ok();
        std::os::unix::fs::symlink(path.trim(), programs.path().join(program)).unwrap();
    }
    let options = Options { path: Some(programs.path().into()), ..Options::up(&["--image", &own]) };
    let instance = Instance::up_with("own-up", &options);
    let listed = instance.mvm(&["image", "ls"]).ok();
    assert!(listed.contains(&pushed), "{listed}");
    let logs = |source: &str| instance.mvm(&["logs", source]).ok();
    assert!(
        logs("onboot.005-seed").ends_with("bin\ndev\netc\nproc\nroom\nsys\n"),
        "{}",
        logs("onboot.005-seed")
    );
    // Seven steps, one of the shutdown and three services have the numbers from 100 on.
    assert_eq!(logs("onboot.006-step").lines().last(), Some("once as 110:7"));
    eventually("the service's words", 300, || {
        let logs = logs("greeter");
        let expected = ["hello you from /room", "sown", "nothing is written"];
        if expected.iter().all(|line| logs.contains(line)) { Ok(()) } else { Err(logs) }
    });
    // While services run, and to its end.
    instance.mvm(&["down", &instance.name]).ok();
    let last = logs("onshutdown.000-last");
    assert_eq!(last, "of the greeter there is 1\n");
}

/// An image in the registry, which this machine has not; its digest.
fn pushed(instance: &Instance, image: &str, config: &Value) -> String {
    let elsewhere = tempfile::tempdir().unwrap();
    let layout = layout(image, config);
    let mvm = |arguments: &[&str]| {
        run(instance.command().args(arguments).env("XDG_DATA_HOME", elsewhere.path())).ok()
    };
    mvm(&["image", "import", layout.path().to_str().unwrap()]);
    let pushed = mvm(&["image", "push", image]);
    pushed.trim().rsplit(' ').next().expect("a name and a digest").to_owned()
}
