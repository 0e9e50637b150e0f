//! Memory and disk, as the guest sees them.

use std::io;

use protocol::agent::UsageResponse;
use rustix::fs::statvfs;

use crate::init::boot_milliseconds;

const DATA: &str = "/var/lib";

pub(super) fn usage() -> io::Result<UsageResponse> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let disk = statvfs(DATA)?;
    Ok(UsageResponse {
        memory_total_bytes: field(&memory, "MemTotal"),
        memory_available_bytes: field(&memory, "MemAvailable"),
        disk_total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        disk_available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        uptime_ms: boot_milliseconds(),
    })
}

/// A field of /proc/meminfo, in bytes (proc_meminfo(5) gives kibibytes). Zero when the kernel has none.
fn field(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:        2048 kB\nMemAvailable:       7 kB\nMem: 1 kB\n";
        assert_eq!(field(text, "MemTotal"), 2048 * 1024);
        assert_eq!(field(text, "MemAvailable"), 7 * 1024);
        assert_eq!(field(text, "MemFree"), 0);
    }

    #[test]
    fn this_machine_has_memory() {
        let usage = usage().unwrap();
        assert!(usage.memory_total_bytes > usage.memory_available_bytes && usage.disk_total_bytes > 0);
    }
}
