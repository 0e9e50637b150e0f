//! What differs between hosts. Nothing outside this folder and `engine/` asks which host it is.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Event, Interest, Poller, Wake, inherit_and_follow_parent};

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::timestamp_counter;

#[cfg(not(target_arch = "x86_64"))]
mod no_counter;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use no_counter::timestamp_counter;
