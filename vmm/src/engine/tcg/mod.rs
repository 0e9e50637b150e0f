//! QEMU as the processor, for hosts without a usable hypervisor. The vsock device stays ours: it is served to QEMU
//! over vhost-user, which takes Linux.

mod machine;
#[cfg(not(target_os = "linux"))]
mod not_run;
#[cfg(target_os = "linux")]
mod processor;
#[cfg(target_os = "linux")]
mod run;
mod tsc;
mod version;

pub use machine::{Disk, Machine};
#[cfg(not(target_os = "linux"))]
pub use not_run::{RunError, run};
#[cfg(target_os = "linux")]
pub use processor::ProcessorError as RunError;
#[cfg(all(feature = "fuzzing", target_os = "linux"))]
pub(crate) use processor::follow;
#[cfg(target_os = "linux")]
pub(crate) use processor::{Processor, Report, Said, Wires, outcome};
#[cfg(target_os = "linux")]
pub use run::run;
pub use tsc::kernel_arguments;
#[cfg(feature = "fuzzing")]
pub(crate) use version::parse as parse_version;
pub use version::{TcgError, Version, check};
