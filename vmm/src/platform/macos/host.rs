//! What the host has for everybody.

use std::io;

/// What one call of `getentropy` gives at most.
const AT_A_TIME: usize = 256;
/// `OPEN_MAX`: a higher limit is refused, also where none is set.
const MOST_DESCRIPTORS: u64 = 10240;

/// Fills `bytes` from the host's generator.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    for part in bytes.chunks_mut(AT_A_TIME) {
        // SAFETY: it writes so many bytes, and all of them are the slice's.
        if unsafe { libc::getentropy(part.as_mut_ptr().cast(), part.len()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The memory that the host has, in bytes; 0 where it does not say.
#[must_use]
pub fn memory_bytes() -> u64 {
    let mut bytes = 0_u64;
    let mut length = size_of_val(&bytes);
    let (value, old) = (&raw mut bytes, &raw mut length);
    // SAFETY: the name ends with a zero byte, the value is a number of 64 bits, and nothing is set.
    let result =
        unsafe { libc::sysctlbyname(c"hw.memsize".as_ptr(), value.cast(), old, std::ptr::null_mut(), 0) };
    if result == 0 { bytes } else { 0 }
}

/// How many descriptors a process may have open that is allowed so many.
pub(crate) fn most_descriptors(allowed: Option<u64>) -> Option<u64> {
    Some(allowed.map_or(MOST_DESCRIPTORS, |allowed| allowed.min(MOST_DESCRIPTORS)))
}
