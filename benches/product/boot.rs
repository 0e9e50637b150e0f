//! `mvm up` with a new data disk: how long, how much work, and what it occupies when nothing happens.

use std::fs;

use crate::report::Figure;
use crate::support::Instance;

const RUNS: usize = 5;

pub(crate) fn measure() -> Vec<Figure> {
    let mut stages: Vec<(String, Vec<f64>)> = Vec::new();
    let (mut wall, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    // The first one makes the appliance if there is none, and reads it into the page cache: not counted.
    drop(Instance::up("warm"));
    for _ in 0..RUNS {
        let instance = Instance::prepared("bench");
        let outcome = instance.mvm(&["up", "bench"]);
        assert_eq!(outcome.status, 0, "{outcome}");
        cpu.push(instance.processes().all().iter().map(|process| cpu_seconds(process.pid)).sum());
        let status = instance.status();
        wall.push(status["ready_after_ms"].as_f64().expect("a machine that is ready says when") / 1000.0);
        for (name, at) in stage_lines(&outcome.stderr) {
            match stages.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(at),
                None => stages.push((name, vec![at])),
            }
        }
        memory.push(idle_memory(&instance));
    }
    for (name, values) in stages {
        let Figure { median, min, max, .. } = Figure::new("stage", "ms", &values);
        println!("  {name:<26} {median:>10.0} ms       ({min:.0} to {max:.0})");
    }
    vec![
        Figure::new("up-to-ready", "s", &wall),
        Figure::new("up-to-ready-cpu", "CPU s", &cpu),
        Figure::new("guest-idle-memory", "MB", &memory),
    ]
}

/// User and system time of a process and of the children that it has waited for (proc(5), stat, fields 14 to 17).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').skip(11).take(4);
    let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// What programs and the kernel hold in the guest once it has come to rest. The page cache is not counted: it is as large
/// as the memory that nobody wants.
fn idle_memory(instance: &Instance) -> f64 {
    std::thread::sleep(std::time::Duration::from_secs(5));
    let meminfo = instance.mvm(&["exec", "cat", "/proc/meminfo"]).ok();
    let kibibytes = |name: &str| -> f64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {meminfo}"))
    };
    let cache: f64 = ["Buffers", "Cached", "SReclaimable"].map(kibibytes).iter().sum();
    (kibibytes("MemTotal") - kibibytes("MemFree") - cache) * 1024.0 / 1e6
}

/// "kernel 612 ms", as `mvm up` prints its stages.
fn stage_lines(progress: &str) -> Vec<(String, f64)> {
    let stage = |line: &str| {
        let (name, at) = line.split_once(" ms")?.0.trim().rsplit_once(' ')?;
        Some((name.trim().to_owned(), at.parse().ok()?))
    };
    progress.lines().filter_map(stage).collect()
}
