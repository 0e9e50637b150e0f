//! QEMU as the processor, for hosts without a usable hypervisor. The vsock device stays ours: it is served to QEMU
//! over vhost-user.

mod arguments;
mod monitor;
mod processor;
mod tsc;
mod version;

pub(crate) use monitor::Said;
pub(crate) use processor::{Processor, ProcessorError, Report};
pub use tsc::kernel_arguments;
pub use version::{TcgError, Version, check};
