//! Which platforms are said to run is what really runs.

mod support;

use serde_json::Value;
use support::{Instance, context, eventually, skipped};

/// What `mvm status --json` says of one platform.
fn platform(status: &Value, name: &str) -> Value {
    let found = status["platforms"].as_array().unwrap().iter().find(|found| found["platform"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status:#}")).clone()
}

/// The names of those that run, sorted.
fn working(status: &Value) -> Vec<&str> {
    let platforms = status["platforms"].as_array().unwrap().iter();
    let mut names: Vec<&str> = platforms
        .filter(|platform| platform["works"] == true)
        .map(|platform| platform["platform"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_registration_that_is_gone_takes_exactly_its_platform_away() {
    if skipped("platforms") {
        return;
    }
    let instance = Instance::shared();
    let all = [
        "linux/386",
        "linux/amd64",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64",
        "linux/loong64",
        "linux/ppc64le",
        "linux/riscv64",
        "linux/s390x",
    ];
    // The self-test of the boot may still run.
    let known = eventually("the self-test", 300, || {
        let status = instance.status();
        if working(&status) == all { Ok(status) } else { Err(format!("{:#}", status["platforms"])) }
    });
    let emulator = platform(&known, "linux/s390x")["emulator"].as_str().unwrap_or_default().to_owned();
    assert!(emulator.starts_with("qemu-s390x "), "\"{emulator}\" is no emulator with its version");
    assert_eq!(platform(&known, "linux/386")["emulator"], Value::Null, "the processor runs it itself");

    let registration = "/proc/sys/fs/binfmt_misc/qemu-s390x";
    instance.mvm(&["exec", "sh", "-c", &format!("echo -1 > {registration}")]).ok();

    let left: Vec<&str> = all.into_iter().filter(|name| *name != "linux/s390x").collect();
    // On a busy host the test of all platforms may take longer than a status waits for it.
    let status = eventually("the platform is gone", 300, || {
        let status = instance.status();
        if working(&status) == left { Ok(status) } else { Err(format!("{:#}", status["platforms"])) }
    });
    assert_eq!(platform(&status, "linux/s390x")["works"], false);
    let reason = platform(&status, "linux/s390x")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("xec format error"), "\"{reason}\"");
    let listed = instance.mvm(&["ls"]).ok();
    assert!(listed.contains("linux/riscv64") && !listed.contains("linux/s390x"), "{listed}");

    let directory = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let path = directory.path().to_str().unwrap();
    let refused = instance.mvm(&["build", "--platform", "linux/amd64,linux/s390x", path]);
    refused.refused(2, "linux/s390x cannot run here");
    assert!(!refused.stderr.contains("#1 "), "nothing is built before: {refused}");
    instance.mvm(&["build", "--platform", "linux/amd64,linux/riscv64", path]).ok();
}
