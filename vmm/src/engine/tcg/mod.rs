//! QEMU as the processor, for hosts without a usable hypervisor. The vsock device stays ours: it is served to QEMU
//! over vhost-user.

mod arguments;
mod monitor;
mod processor;
mod tsc;
mod version;

pub(crate) use monitor::Said;
#[cfg(feature = "fuzzing")]
pub(crate) use monitor::follow;
pub(crate) use processor::{Processor, ProcessorError, Report};
pub use tsc::kernel_arguments;
#[cfg(feature = "fuzzing")]
pub(crate) use version::parse as parse_version;
pub use version::{TcgError, Version, check};
