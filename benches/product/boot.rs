//! `mvm up` with a new data disk: how long and how much work to each stage, and what it occupies when nothing happens. In turn
//! with it the same appliance without dm-verity, which tells what holding the root against its hashes costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::Figure;
use crate::support::{Instance, Options, TOP};

const RUNS: usize = 5;
/// The appliance whose root is read as it is.
const UNVERIFIED: &str = "bench-unverified";

/// What was spent since `mvm up` began.
struct Spent {
    stage: String,
    seconds: f64,
    /// Of QEMU, machine process, supervisor and passt together.
    cpu_seconds: f64,
}

pub(crate) fn measure() -> Vec<Figure> {
    // The first one makes the appliance if there is none, and reads it into the page cache: not counted.
    let warm = Instance::up("warm");
    let definition = format!("{TOP}/linuxkit.yml");
    warm.mvm(&["image", "build", "--no-verity", "--name", UNVERIFIED, &definition]).ok();
    drop(warm);
    drop(Instance::up_with("warm", &Options::up(&["--image", UNVERIFIED])));
    let (mut boots, mut unverified, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let instance = Instance::prepared("bench");
        boots.push(up(&instance, &[]));
        memory.push(idle_memory(&instance));
        drop(instance);
        unverified.push(up(&Instance::prepared("bench"), &["--image", UNVERIFIED]));
    }
    let mut figures = Vec::new();
    for Spent { stage, .. } in &boots[0] {
        let each = |boots: &[Vec<Spent>], of: fn(&Spent) -> f64| -> Vec<f64> {
            boots.iter().filter_map(|boot| boot.iter().find(|spent| spent.stage == *stage)).map(of).collect()
        };
        let figure = |name: &str, unit, of: fn(&Spent) -> f64| {
            let figure = Figure::new(format!("up-to-{stage}{name}"), unit, &each(&boots, of));
            figure.against("without dm-verity", &each(&unverified, of))
        };
        figures.push(figure("", "s", |spent| spent.seconds));
        figures.push(figure("-cpu", "CPU s", |spent| spent.cpu_seconds));
    }
    figures.push(Figure::new("guest-idle-memory", "MB", &memory));
    figures
}

/// Starts it, and reads the clocks at each line with which `mvm up` tells of a stage's end.
fn up(instance: &Instance, arguments: &[&str]) -> Vec<Spent> {
    let mut command = instance.command();
    command.args(["up", &instance.name]).args(arguments);
    let start = Instant::now();
    let mut boot = Vec::new();
    let outcome = follow(&mut command, |stage| {
        let seconds = start.elapsed().as_secs_f64();
        let processes = instance.processes().all();
        let cpu_seconds = processes.iter().map(|process| cpu_seconds(process.pid)).sum();
        boot.push(Spent { stage: stage.to_owned(), seconds, cpu_seconds });
    });
    if let Err(said) = outcome {
        panic!("{said}{}", instance.logs());
    }
    boot
}

/// Runs `mvm up` to its end, and is told of each stage's end when that comes; an error is all that it said.
pub(crate) fn follow(up: &mut Command, mut ended: impl FnMut(&str)) -> Result<(), String> {
    let mut child = up.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("mvm starts");
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines() {
        let line = line.expect("mvm says it in UTF-8");
        if let Some(stage) = ended_stage(&line) {
            ended(stage);
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().expect("mvm can be waited for");
    if status.success() { Ok(()) } else { Err(format!("mvm up ended with {status}\n{said}")) }
}

/// "kernel" of "  kernel     612 ms", and "ready" of the last line.
fn ended_stage(line: &str) -> Option<&str> {
    if line.starts_with("ready after ") {
        return Some("ready");
    }
    Some(line.strip_suffix(" ms")?.trim().rsplit_once(' ')?.0.trim())
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
