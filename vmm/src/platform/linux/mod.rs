//! Linux.

mod child;
mod events;
mod files;
mod host;
mod memory;
mod sockets;

pub(crate) use child::inherit_and_follow_parent;
pub(crate) use events::{Poller, Wake};
pub use files::{device_numbers, reserve};
pub(crate) use files::{lock, punch_hole, zero_range};
pub(crate) use host::most_descriptors;
pub use host::{memory_bytes, random};
pub(crate) use memory::{prefer_huge_pages, release};
pub(crate) use sockets::{RECEIVE, SEND, accept, is_unix, keep_from_children};

/// Whether QEMU can be served a device over vhost-user, as the engine tcg needs it.
pub(crate) const HAS_VHOST_USER: bool = true;
