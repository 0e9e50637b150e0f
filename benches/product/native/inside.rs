//! What this program does inside the rig: each value is a line of JSON on standard output.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use vmm::hypervisor::probe::probe;

use super::guest::Guest;
use super::process::Vmm;
use super::values::{MIB, RUNS, millions, rate, report};
use super::{BOTH, Of, network};
use crate::boot::follow;
use crate::support::{KvmInstance, Parts, VsockBench, run};

/// The argument by which this program knows that it is inside; the part and QEMU's command follow.
pub(crate) const WORD: &str = "--inside";

pub(crate) fn main(arguments: &[String]) {
    let [part, qemu @ ..] = arguments else { panic!("no part was named") };
    match part.as_str() {
        "start" => start(qemu),
        "stages" => stages(),
        "up" => up(),
        "disk" => disk(qemu),
        "network" => network::measure(qemu),
        "memory" => memory(qemu),
        "vsock" => vsock(),
        other => panic!("{other} is no part"),
    }
}

/// From the VMM's exec to the first process of its guest; what `--accel auto` asks before; and what is left of the VMM when
/// the guest does nothing.
fn start(qemu: &[String]) {
    for _ in 0..RUNS {
        for of in BOTH {
            let mut vmm = Vmm::start(Guest::doing("-- up").command(of, qemu));
            let up = vmm.hears("up");
            report("vmm-exec-to-init", "million", of, millions(up - vmm.started));
            vmm.finish();
        }
        let started = Instant::now();
        probe().expect("this machine's KVM runs guest code");
        report("kvm-probe", "million", Of::Mvm, millions(started.elapsed()));
    }
    for of in BOTH {
        let guest = Guest { has_shared_memory: true, ..Guest::doing("rig.do=wait") };
        let mut vmm = Vmm::start(guest.command(of, qemu));
        vmm.hears("waits");
        thread::sleep(Duration::from_secs(3));
        report("vmm-memory", "MiB", of, vmm.own_memory());
        const SECONDS: u64 = 10;
        let before = vmm.cpu();
        thread::sleep(Duration::from_secs(SECONDS));
        report("idle-cpu", "ms/s", of, (vmm.cpu() - before).as_secs_f64() * 1e3 / SECONDS as f64);
    }
}

/// How much our own VMM has taken to come how far, the exec itself included; `vmm-exec-to-init` is the rest of the way.
fn stages() {
    for _ in 0..RUNS {
        let guest = Guest { has_stages: true, ..Guest::doing("-- up") };
        let mut command = guest.command(Of::Mvm, &[]);
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mvm starts");
        let words = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        for line in words.map(|line| line.expect("mvm says it in UTF-8")) {
            if let Some((stage, _)) = line.trim_start_matches("mvm vmm: ").split_once(" after ") {
                report(&format!("vmm-to-{stage}"), "million", Of::Mvm, millions(started.elapsed()));
            }
        }
        child.wait().expect("mvm can be waited for");
    }
}

/// The whole appliance, to the end of each stage of `mvm up`.
fn up() {
    for _ in 0..RUNS {
        let instance = KvmInstance::new();
        let mut up =
            instance.command(&["up", "--accel", "kvm", "--cpus", "1", "--memory", "1G", "--disk", "4G"]);
        let started = Instant::now();
        let outcome = follow(&mut up, |stage| {
            report(&format!("up-to-{stage}"), "million", Of::Mvm, millions(started.elapsed()));
        });
        outcome.unwrap_or_else(|said| panic!("{said}"));
        instance.mvm(&["down"]).ok();
    }
}

/// A file in memory, read and written past the guest's own cache.
fn disk(qemu: &[String]) {
    let disk = PathBuf::from("/tmp/disk.raw");
    File::create(&disk).and_then(|file| file.set_len(MIB << 20)).expect("a disk can be made");
    for _ in 0..RUNS {
        for (figure, action) in [("blk-write", "write-disk"), ("blk-read", "read-disk")] {
            for of in BOTH {
                let words = format!("rig.do={action} rig.disk=/dev/vda rig.mib={MIB}");
                let guest = Guest { disk: Some(disk.clone()), ..Guest::doing(words) };
                report(figure, "MiB/G", of, rate(Vmm::start(guest.command(of, qemu))));
            }
        }
    }
}

/// How much of 128 MiB that the guest no longer uses comes back, and how long it takes for nine tenths of that.
fn memory(qemu: &[String]) {
    const USED: u64 = 128;
    for of in BOTH {
        let mut vmm = Vmm::start(Guest::doing(format!("rig.do=free rig.mib={USED}")).command(of, qemu));
        vmm.hears("full");
        let full = vmm.memory();
        let freed = vmm.hears("freed");
        let mut seen = vec![(freed, full)];
        let mut least = full;
        // To the end of it: nothing more comes for ten seconds.
        while seen.last().is_some_and(|(since, _)| since.elapsed() < Duration::from_secs(10)) {
            thread::sleep(Duration::from_millis(50));
            let now = vmm.memory();
            if now < least {
                least = now;
                seen.push((Instant::now(), now));
            }
        }
        let most = full - 0.9 * (full - least);
        let (at, _) = seen.iter().find(|(_, memory)| *memory <= most).expect("the last one is below it");
        report("memory-returned", "MiB", of, full - least);
        report("memory-returned-after", "ms", of, (*at - freed).as_secs_f64() * 1e3);
    }
}

/// What the example of the crate `vmm` prints that tests/vmm/vsock.rs runs, too.
fn vsock() {
    for _ in 0..RUNS {
        let mut command = VsockBench::here().on_kvm(&Parts::here().kernel);
        // Where instructions are counted, guests with several processors hang now and then.
        let printed = run(command.env("MVM_BENCH_MIB", "16").env("MVM_BENCH_CPUS", "1")).ok();
        for line in printed.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("vsock_bench prints JSON lines");
            let name = line["name"].as_str().unwrap_or_default();
            if ["vsock-rtt", "vsock-to-guest", "vsock-to-host"].contains(&name) {
                let value = line["value"].as_f64().unwrap_or_default();
                match line["unit"].as_str() {
                    Some("MiB/s") => report(name, "MiB/G", Of::Mvm, value),
                    Some("us") => report(name, "million", Of::Mvm, value / 1e3),
                    other => panic!("{name} is in {other:?}"),
                }
            }
        }
    }
}
