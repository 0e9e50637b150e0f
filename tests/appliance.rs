//! An appliance of one's own: the one that mvm carries, and containers of somebody else's image.

mod support;

use std::fs;

use serde_json::json;
use support::{Instance, Options, TOP, eventually, layout, skipped};

const MORE: &str = "
volumes:
  - name: data
  - {name: base, image: test/greeter:1, readonly: true}
onboot:
  - name: seed
    image: test/greeter:1
    command: [/bin/busybox, sh, -c, 'echo sown > /data/x; echo x > /base/x || /bin/busybox ls /base']
    binds: ['data:/data']
    mounts: [{type: bind, source: base, destination: /base, options: [bind, ro]}]
  - name: step
    image: test/greeter:1
    command: [/bin/busybox, sh, -c, 'echo once as $(/bin/busybox id -u):$(/bin/busybox id -g)']
    uid: greeter
    gid: 7
onshutdown:
  - name: last
    image: test/greeter:1
    command: [/bin/busybox, sh, -c, 'echo of the greeter there is $(/bin/busybox ps | /bin/busybox grep -c [s]leep)']
    pid: host
services:
  - name: greeter
    image: test/greeter:1
    env: [GREETING=hello, WHO=you]
    binds: ['data:/data:ro']
    readonly: true
";

#[test]
fn containers_of_an_imported_image_run_as_they_were_told() {
    if skipped("appliance") {
        return;
    }
    let instance = Instance::prepared("own");
    let directory = tempfile::tempdir().unwrap();
    let more = directory.path().join("more.yml");
    fs::write(&more, MORE).unwrap();
    let said = "echo $GREETING $WHO from $PWD; /bin/busybox cat /data/x; echo x > /room/x || echo nothing is written; /bin/busybox sleep 86400";
    let config = json!({
        "Entrypoint": ["/bin/busybox", "sh", "-c"], "Cmd": [said],
        "Env": ["GREETING=other"], "WorkingDir": "/room",
    });
    let image = layout("test/greeter:1", &config);
    let imported = instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    assert!(imported.starts_with("test/greeter:1 sha256:"), "{imported}");

    let (own, more) = (format!("{TOP}/linuxkit.yml"), more.to_str().unwrap());
    let made = instance.mvm(&["image", "build", "--name", "test-own", &own, more]).ok();
    assert_eq!(
        instance.mvm(&["image", "build", "--name", "test-own", &own, more]).ok(),
        made,
        "it is the same"
    );
    let listed = instance.mvm(&["image", "ls"]).ok();
    assert!(listed.contains(&made) && listed.contains(&imported), "{listed}");

    let instance = Instance::up_with("own-up", &Options::up(&["--image", "test-own"]));
    let logs = |source: &str| instance.mvm(&["logs", source]).ok();
    assert!(logs("onboot.005-seed").ends_with("bin\nroom\n"), "{}", logs("onboot.005-seed"));
    // Seven steps, one of the shutdown and three services have the numbers from 100 on.
    assert_eq!(logs("onboot.006-step").lines().last(), Some("once as 110:7"));
    eventually("the service's words", 60, || {
        let logs = logs("greeter");
        let expected = ["hello you from /room", "sown", "nothing is written"];
        if expected.iter().all(|line| logs.contains(line)) { Ok(()) } else { Err(logs) }
    });
    // While services run, and to its end.
    instance.mvm(&["down", &instance.name]).ok();
    let last = logs("onshutdown.000-last");
    assert_eq!(last, "of the greeter there is 1\n");
}
