//! What the kernel says of the process itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{each, read, reason, text};

/// A line of `/proc/self/status`.
pub(crate) fn status(name: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map_or_else(|| "none".to_owned(), |words| words.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Of users and groups: real, effective, saved, and of the file system.
pub(crate) fn ids() -> Value {
    json!({"uid": status("Uid"), "gid": status("Gid"), "groups": status("Groups")})
}

/// As sets of bits, in hexadecimal digits.
pub(crate) fn capabilities() -> Value {
    each(&["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], status)
}

/// `/proc/self/limits`, whose columns are of a fixed width: soft and hard.
pub(crate) fn limits() -> Value {
    const NAME: usize = 26;
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = |line: &str| {
        let (name, values) = line.split_at_checked(NAME)?;
        let values: Vec<_> = values.split_whitespace().take(2).collect();
        Some((name.trim().to_owned(), Value::from(values.join(" "))))
    };
    limits.lines().skip(1).filter_map(limit).collect::<Map<_, _>>().into()
}

/// The number of each.
pub(crate) fn namespaces() -> Value {
    each(&["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"], |kind| {
        match fs::metadata(Path::new("/proc/self/ns").join(kind)) {
            Ok(namespace) => json!(namespace.ino()),
            Err(error) => reason(&error).into(),
        }
    })
}

/// Its control group, and what that is limited to.
pub(crate) fn cgroup() -> Value {
    const FILES: [&str; 9] = [
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
        "io.max",
        "memory.high",
        "memory.low",
        "memory.max",
        "memory.swap.max",
        "pids.max",
    ];
    let path = text(read("/proc/self/cgroup")).trim_start_matches("0::").to_owned();
    let group = format!("/sys/fs/cgroup{path}");
    let mut values = each(&FILES, |file| text(read(Path::new(&group).join(file))));
    values["path"] = path.into();
    values
}

/// The names of the network interfaces.
pub(crate) fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    let mut names: Vec<_> = table.lines().filter_map(name).collect();
    names.sort();
    names
}
