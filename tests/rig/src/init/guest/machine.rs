//! What the guest sees of its machine.

use std::arch::x86_64::__cpuid;
use std::fs::{self, File};
use std::io::Read;
use std::thread;

use crate::Outcome;

/// The leaf at which a hypervisor says its name.
const HYPERVISOR: u32 = 0x4000_0000;

/// The name of whatever runs this guest.
pub(super) fn hypervisor() -> String {
    let leaf = __cpuid(HYPERVISOR);
    let name: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
}

pub(super) fn describe() -> Outcome<()> {
    let cpus = thread::available_parallelism()?;
    let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let sources = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    println!("rig: cpus={cpus} online={}", online.trim());
    println!("rig: clocks={}", fs::read_to_string(sources)?.trim().replace(' ', ","));
    let mut flaws =
        fs::read_dir("/sys/devices/system/cpu/vulnerabilities")?.collect::<Result<Vec<_>, _>>()?;
    flaws.sort_by_key(fs::DirEntry::file_name);
    for flaw in flaws {
        println!("rig: {}={}", flaw.file_name().display(), fs::read_to_string(flaw.path())?.trim());
    }
    Ok(())
}

/// Twice what the device for entropy gives.
pub(super) fn random() -> Outcome<()> {
    println!("rig: source={}", fs::read_to_string("/sys/class/misc/hw_random/rng_current")?.trim());
    let mut device = File::open("/dev/hwrng")?;
    for _ in 0..2 {
        let mut bytes = [0; 32];
        device.read_exact(&mut bytes)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("rig: random={digits}");
    }
    Ok(())
}
