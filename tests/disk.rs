//! A data disk that is full is an error of the build that filled it, and of nothing else.

mod support;

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use support::{Base, Instance, Options, Registry, context, eventually, skipped};

#[test]
fn a_full_data_disk_is_named_and_the_machine_goes_on() {
    if skipped("disk") {
        return;
    }
    let instance = Instance::up_with("disk", &Options::up(&["--disk", "2G"]));
    let registry = Registry::open();
    let base = Base::push(&instance, &registry);
    // Most of it at once, so that the build has less to write.
    instance.mvm(&["exec", "busybox", "fallocate", "-l", "1600M", "/var/lib/filler"]).ok();

    let dockerfile = format!("FROM {}\nRUN dd if=/dev/urandom of=/random bs=1M count=3000\n", base.image);
    let directory = context(&[("Dockerfile", &dockerfile)]);
    let failed = instance.mvm(&["build", directory.path().to_str().unwrap()]);
    failed.refused(1, "No space left on device");
    failed.refused(1, "the builder's disk is full: `mvm prune` takes room back; an instance's is made larger with `mvm down` and");

    // The machine answers, and what the failed step had written is freed.
    assert_eq!(instance.status()["state"], "ready");
    let run = ["run", "--rm", &base.image, "echo", "goes on"];
    eventually("a container", 300, || {
        let outcome = instance.mvm(&run);
        if outcome.status == 0 && outcome.stdout == "goes on\n" { Ok(()) } else { Err(outcome.to_string()) }
    });
    instance.mvm(&["exec", "rm", "/var/lib/filler"]).ok();
    let small = context(&[("Dockerfile", &format!("FROM {}\nRUN echo small > /small\n", base.image))]);
    instance.mvm(&["build", small.path().to_str().unwrap()]).ok();

    // Full at the start: there is a builder all the same, so that room can be made, and more room can be given.
    let fill = "for size in 1024 256 64 16 4; do while busybox fallocate -l ${size}M /var/lib/filler$size.$((n=n+1)); do :; done; rm -f /var/lib/filler$size.$n; done 2> /dev/null; sync";
    instance.mvm(&["exec", "sh", "-c", fill]).ok();
    instance.mvm(&["down", "disk"]).ok();
    let full = instance.mvm(&["up", "disk"]);
    assert_eq!(full.status, 0, "{full}\n{}", instance.logs());
    assert!(full.stderr.contains("the data disk is full ("), "{full}");
    assert!(full.stderr.contains("`mvm down`, then `mvm up --disk` with a larger size"), "{full}");
    instance.mvm(&["down", "disk"]).ok();
    let grown = instance.mvm(&["up", "disk", "--disk", "4G"]);
    assert_eq!(grown.status, 0, "{grown}\n{}", instance.logs());
    assert!(!grown.stderr.contains("is full"), "{grown}");
    let total = eventually("the guest tells its usage", 300, || {
        let status = instance.status();
        status["usage"]["disk_total_bytes"].as_u64().ok_or_else(|| status.to_string())
    });
    assert!(total > 3 << 30, "the file system has {total} bytes");
    assert_eq!(instance.mvm(&run).ok(), "goes on\n");
    let smaller = instance.mvm(&["up", "disk", "--disk", "2G"]);
    smaller.refused(1, "disk runs with other settings; `mvm down disk` first");
    instance.mvm(&["down", "disk"]).ok();
    let smaller = instance.mvm(&["up", "disk", "--disk", "2G"]);
    smaller.refused(1, "has 4 GiB and cannot shrink to 2; `mvm rm` removes it with everything on it");

    let disk = instance.state().join("data.raw");
    let other = File::open(&disk).unwrap();
    flock(&other, FlockOperation::LockShared).unwrap();
    let disk = disk.display();
    let locked = instance.mvm(&["up", "disk"]);
    locked
        .refused(1, &format!("the data disk {disk} is locked by another process; end that (`fuser {disk}`"));
}
