//! How many instructions the guest executes from reset to its first process.
//!
//! With `-icount shift=0,sleep=off` one nanosecond of the guest's clock is one instruction, whatever else the host does;
//! the kernel stamps the line with which it starts `/init` with that clock.

use std::process::Command;

use crate::report::Figure;
use crate::support::{Appliance, run};

const RUNS: usize = 3;

pub(crate) fn measure() -> Vec<Figure> {
    let appliance = Appliance::built();
    let counts: Vec<f64> = (0..RUNS).map(|_| millions(appliance)).collect();
    vec![Figure::new("init-instructions", "million", &counts)]
}

fn millions(appliance: &Appliance) -> f64 {
    let console = tempfile::NamedTempFile::new().expect("a file for the console");
    let path = console.path().display();
    // `init=` names what is not there, so that the kernel stops where the count is read.
    let cmdline = "console=hvc0 loglevel=7 root=/dev/vda rootfstype=erofs ro init=/not-there panic=-1 tsc=reliable tsc_early_khz=1000000";
    let mut command = Command::new(&appliance.qemu[0]);
    command.args(&appliance.qemu[1..]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-cpu", "max"]);
    command.args([
        "-bios",
        "qboot.rom",
        "-M",
        "microvm,acpi=on",
        "-accel",
        "tcg,thread=single",
        "-icount",
        "shift=0,sleep=off",
    ]);
    command.args(["-smp", "1", "-m", "1024", "-append", cmdline, "-kernel"]).arg(&appliance.kernel);
    let root = appliance.root.display();
    command.args(["-drive", &format!("id=root,if=none,format=raw,readonly=on,file={root}")]);
    command.args(["-device", "virtio-blk-device,drive=root", "-device", "virtio-serial-device"]);
    command.args([
        "-chardev",
        &format!("file,id=console,path={path}"),
        "-device",
        "virtconsole,chardev=console",
    ]);
    let outcome = run(&mut command);
    let text = std::fs::read_to_string(console.path()).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("Requested init /not-there failed"));
    let stamp = line.and_then(|line| line.split(['[', ']']).nth(1)?.trim().parse::<f64>().ok());
    stamp.unwrap_or_else(|| panic!("no stamp on the console\n{text}\n{outcome}")) * 1000.0
}
