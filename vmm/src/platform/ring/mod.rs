//! A queue of the kernel's for what is read from and written to one file: many requests under way at a time, and one call
//! for many of them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::Ring;
#[cfg(target_os = "linux")]
pub use linux::try_out;

#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(not(target_os = "linux"))]
pub(crate) use none::Ring;
#[cfg(not(target_os = "linux"))]
pub use none::try_out;

use std::io;

/// Why there is none, as a sentence for the host's user. A disk then carries its requests out one after the other.
#[derive(Debug, thiserror::Error)]
pub enum NoRing {
    #[error("this kind of host has no io_uring, so a disk does one request after the other; Linux has it")]
    Elsewhere,
    #[error(
        "this kernel has no io_uring that can be restricted, so a disk does one request after the other; Linux 5.10 and \
         newer have it"
    )]
    Unknown,
    #[error(
        "io_uring is forbidden here, so a disk does one request after the other; set kernel.io_uring_disabled to 0, or \
         let the filter of the container allow it"
    )]
    Forbidden,
    #[error(
        "io_uring cannot be had ({0}), so a disk does one request after the other; raise your limits of open files and \
         of locked memory (ulimit -n, ulimit -l)"
    )]
    Failed(#[from] io::Error),
}
