//! What differs between hosts. Nothing outside this folder, `hypervisor/` and `board/` may assume a kind of host or
//! processor; the engine tcg, which is Linux's, is chosen as a whole.

mod event;
pub mod ring;
pub mod sandbox;
mod unix;

pub(crate) use event::{Event, Interest};
pub(crate) use unix::{give_back, read_at, thread_time, write_at};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::*;

// What macOS needs and is pure, so that it is tested everywhere.
#[cfg(any(target_os = "macos", test))]
mod blocks;
#[cfg(any(target_os = "macos", test))]
mod kqueue;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
