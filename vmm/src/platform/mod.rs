//! What differs between hosts. Nothing outside this folder and `engine/` asks which host it is.

pub mod sandbox;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Event, Interest, Poller, Wake, inherit_and_follow_parent, thread_time};

#[cfg(target_os = "linux")]
mod linux_memory;
#[cfg(target_os = "linux")]
pub(crate) use linux_memory::{give_back, lock, name, prefer_huge_pages, random, read_at, write_at};

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{count_down, timestamp_counter};

#[cfg(not(target_arch = "x86_64"))]
mod no_counter;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use no_counter::timestamp_counter;
