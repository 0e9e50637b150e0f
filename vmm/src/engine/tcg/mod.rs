//! QEMU as the processor, for hosts without a usable hypervisor. The vsock device stays ours: it is served to QEMU
//! over vhost-user, which takes Linux.

#[cfg(target_os = "linux")]
mod processor;
mod tsc;
mod version;

#[cfg(target_os = "linux")]
pub(crate) use processor::{Processor, ProcessorError, Report, Said};
pub use tsc::kernel_arguments;
pub use version::{TcgError, Version, check};
