//! QEMU as the processor, for hosts without a usable hypervisor. The vsock device stays ours: it is served to QEMU
//! over vhost-user.

mod arguments;
mod machine;
mod monitor;
mod processor;
mod run;
mod tsc;
mod version;

pub use machine::{Disk, Machine};
pub(crate) use machine::{Wires, outcome};
pub(crate) use monitor::Said;
pub use processor::ProcessorError;
pub(crate) use processor::{Processor, Report};
pub use run::run;
pub use tsc::kernel_arguments;
pub use version::{TcgError, Version, check};
