//! What mvm wants to know of the host.

/// The memory that the host has, in bytes; 0 where it does not say.
#[cfg(target_os = "linux")]
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// The memory that the host has, in bytes; 0 where it does not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn memory_bytes() -> u64 {
    0
}
