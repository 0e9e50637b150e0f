//! What goes wrong is said: what failed, on what, and what to do.

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use support::{Appliance, Base, Instance, Registry, context, old_qemu, run, skipped};

/// A context with a Dockerfile that has one instruction.
fn plain() -> tempfile::TempDir {
    context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")])
}

#[test]
fn without_a_machine() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("none");
    let socket = instance.docker_socket();
    let message = format!("no builder answers at {}; start it with `mvm up`", socket.display());
    instance.mvm(&["run", "--rm", "busybox"]).refused(3, &message);
    let directory = plain();
    let outcome = instance.mvm(&["build", directory.path().to_str().unwrap()]);
    outcome.refused(3, "mvm up");
    // Variables that CI systems leave empty are as good as none.
    let mut build = instance.command();
    for variable in ["BUILDKIT_PROGRESS", "BUILDKIT_HOST", "MVM_BUILDER", "MVM_INSTANCE"] {
        build.env(variable, "");
    }
    run(build.args(["build", directory.path().to_str().unwrap()])).refused(3, "mvm up");
    // A policy is a promise, and not passed over where it cannot be read.
    let policy = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";
    let mut build = instance.command();
    run(build.env(policy, "/none.json").args(["build", directory.path().to_str().unwrap()]))
        .refused(2, "cannot read the source policy \"/none.json\": No such file");
}

#[test]
fn arguments_that_cannot_be_meant() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("usage");
    instance.mvm(&["run", "--rm", "Busybox"]).refused(2, "\"Busybox\" is not the name of an image");
    instance.mvm(&["run", "--platform", "lunix", "busybox"]).refused(2, "\"lunix\" is not a platform");
    instance.mvm(&["run", "-p", "80", "busybox"]).refused(2, "\"80\" is not a port to publish");
    instance.mvm(&["run", "--privileged", "busybox"]).refused(2, "unexpected argument '--privileged'");
    instance.mvm(&["up", "No_Name"]).refused(2, "No_Name");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    instance.mvm(&["build", path]).refused(2, &format!("{path}/Dockerfile"));
    let directory = plain();
    let path = directory.path().to_str().unwrap();
    instance.mvm(&["build", "--platform", "linux/foo bar", path]).refused(2, "linux/foo bar");
    if let Err(why) = vmm::hypervisor::probe::probe() {
        let refused = instance.mvm(&["up", "usage", "--accel", "kvm"]);
        refused.refused(1, &format!("--accel kvm cannot be had: {}", unmeasured(&why.to_string())));
        refused.refused(1, "; --accel tcg works everywhere");
    }
}

/// Without how many times slower a guest is, which is another number each time.
fn unmeasured(why: &str) -> &str {
    why.split(" guest code ").next().unwrap()
}

/// Whatever this host lacks, each check has a number, a verdict and words, and the status is that of the worst.
#[test]
fn a_host_is_examined() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("doctor");
    let told: serde_json::Value = serde_json::from_str(&instance.mvm(&["doctor", "--json"]).ok()).unwrap();
    let named = |name: &str| {
        let found = told.as_array().unwrap().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {told}"))
    };
    let (verdict, words) = match vmm::hypervisor::probe::probe() {
        Ok(_) => ("ok", "guest code runs".to_owned()),
        Err(why) => ("slow", unmeasured(&why.to_string()).to_owned()),
    };
    assert_eq!(named("kvm")["verdict"], verdict);
    assert!(named("kvm")["words"].as_str().unwrap().starts_with(&words), "{told}");
    for name in ["host", "network", "sandbox", "memory", "disk", "sockets", "appliance"] {
        assert_ne!(named(name)["verdict"], "fails", "{told}");
    }
}

/// As behind `| head`.
#[test]
fn output_that_nobody_reads_is_no_error() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("pipe");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = instance.command().arg("env").stdout(writer).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{output:?}");
}

/// Without anything to unpack one of mvm's own from, the host's QEMU is all there is.
#[test]
fn no_qemu_or_one_that_is_too_old() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("qemu");
    let empty = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    // What is asked for before QEMU is.
    for program in ["unshare", "true"] {
        let path = run(Command::new("which").arg(program)).ok();
        std::os::unix::fs::symlink(path.trim(), programs.path().join(program)).unwrap();
    }
    let up = || {
        let mut up = instance.command();
        up.args(["up", "qemu"]).env("PATH", programs.path()).env("MVM_DEBIAN_MIRROR", "http://127.0.0.1:1");
        run(up.env("XDG_DATA_HOME", empty.path()).env("XDG_CACHE_HOME", empty.path()))
    };
    let remedy =
        "and one of mvm's own cannot be unpacked; install QEMU 10 or newer (package qemu-system-x86)";
    let none = up();
    none.refused(1, "no usable QEMU: cannot run qemu-system-x86_64");
    none.refused(1, remedy);

    old_qemu(programs.path());
    let old = up();
    old.refused(1, "no usable QEMU: qemu-system-x86_64 is QEMU 7.2.9; mvm needs QEMU 10 or later");
    old.refused(1, remedy);

    // With a QEMU that will do, passt is next.
    let qemu = &Appliance::built().qemu;
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", qemu.join(" "));
    fs::write(programs.path().join("qemu-system-x86_64"), script).unwrap();
    let no_passt = up();
    no_passt.refused(1, "no usable passt: passt cannot be started (No such file or directory");
    no_passt.refused(1, "cannot be unpacked; install the package passt, of 2024-09 or newer");
}

#[test]
fn a_boot_that_fails_is_told_and_its_instance_can_be_removed() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("broken");
    fs::create_dir_all(instance.state()).unwrap();
    let disk = fs::File::create(instance.state().join("data.raw")).unwrap();
    disk.set_len(2 << 30).unwrap();
    // The magic number of ext4's superblock, and nothing else of it: neither a new disk nor one that can be mounted.
    disk.write_all_at(&[0x53, 0xef], 0x438).unwrap();
    let processes = instance.processes();
    let up = instance.mvm(&["up", "broken", "--disk", "2G"]);
    up.refused(1, "broken did not start: the boot failed at ");
    up.refused(1, "\n  its last lines:\n    ");
    up.refused(1, &format!("\n  all of it: {}/logs", instance.state().display()));
    processes.expect_none();
    let status = instance.status();
    assert_eq!(status["state"], "failed", "{status}");
    assert!(
        status["reason"].as_str().is_some_and(|told| told.starts_with("the boot failed at ")),
        "{status}"
    );

    instance.mvm(&["rm", "broken"]).ok();
    assert!(!instance.state().exists());
    instance.mvm(&["status"]).refused(3, "no instance is named broken; `mvm up broken` makes it");
}

#[test]
fn sockets_need_a_directory_of_ones_own() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::prepared("dir");
    let runtime = instance.home().join("r");
    let up = |directory: &Path| run(instance.command().args(["up", "dir"]).env("XDG_RUNTIME_DIR", directory));
    let file = instance.home().join("file");
    fs::write(&file, "").unwrap();
    let blocked = up(&file);
    blocked.refused(1, &format!("cannot make {}/mvm", file.display()));
    blocked.refused(1, "set XDG_RUNTIME_DIR to a directory that you may write to");

    let shared = runtime.join("mvm");
    fs::create_dir_all(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let open = up(&runtime);
    open.refused(
        1,
        &format!(
            "{} does not belong to you alone (its mode is 0777, and should be 0700); remove it, or set XDG_RUNTIME_DIR to a directory of your own",
            shared.display()
        ),
    );
}

#[test]
fn registries_that_refuse() {
    if skipped("errors") {
        return;
    }
    let registry = Registry::with_login();
    let instance = Instance::prepared("registry");
    let image = registry.image("private:1");
    let refused = instance.mvm(&["imagetools", "inspect", &image]);
    refused.refused(1, &format!("the registry {} refuses {image}: it wants a login", registry.address()));

    // With the login that Docker's configuration has for it, it answers: there is no such image.
    let auth = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address());
    std::fs::write(instance.home().join("c/config.json"), auth).unwrap();
    let known = instance.mvm(&["imagetools", "inspect", &image]);
    known.refused(1, &format!("{image} is not in the registry {}", registry.address()));

    let open = Registry::open();
    let image = open.image("absent:1");
    let missing = instance.mvm(&["imagetools", "inspect", &image]);
    missing.refused(
        1,
        &format!("{image} is not in the registry {}; check the name and the tag", open.address()),
    );

    let nobody = "127.0.0.1:1/x:1";
    let unreachable = instance.mvm(&["imagetools", "inspect", nobody]);
    unreachable.refused(
        1,
        "cannot reach the registry 127.0.0.1:1 for 127.0.0.1:1/x:1; check its name and that it runs",
    );
}

#[test]
fn a_builder_that_refuses() {
    if skipped("errors") {
        return;
    }
    let instance = Instance::shared();
    let directory = plain();
    let path = directory.path().to_str().unwrap();
    let unknown = instance.mvm(&["build", "--platform", "linux/mips64", path]);
    unknown.refused(2, "linux/mips64 cannot run here");

    let private = Registry::with_login();
    let image = private.image("private:1");
    let refused = instance.mvm(&["build", "-t", &image, "--push", path]);
    assert_ne!(refused.status, 0, "{refused}");
    assert!(refused.stderr.contains(&private.address()), "{refused}");

    let open = Registry::open();
    let base = Base::push(instance, &open);
    let missing = base.image.replace("base:latest", "nosuch:1");
    let directory = context(&[("Dockerfile", &format!("FROM {missing}\n"))]);
    let outcome = instance.mvm(&["build", directory.path().to_str().unwrap()]);
    outcome.refused(1, &missing);
    outcome.refused(1, "not found");
}
