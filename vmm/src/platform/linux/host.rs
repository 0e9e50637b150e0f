//! What the host has for everybody.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` from the host's generator.
pub fn random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = getrandom(&mut *bytes, GetRandomFlags::empty())?;
        bytes = bytes.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

/// The memory that the host has, in bytes; 0 where it does not say.
#[must_use]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// How many descriptors a process may have open that is allowed so many: all of them.
pub(crate) fn most_descriptors(allowed: Option<u64>) -> Option<u64> {
    allowed
}
