//! What host and guest say to each other: vsock ports, the agent's RPC, and the words on the kernel command line.

pub mod agent;
pub mod kernel_args;
pub mod ports;

use std::time::Duration;

/// How long the guest gives a service to stop before it kills it.
pub const SERVICE_STOP: Duration = Duration::from_secs(20);

/// How long the steps of the shutdown may take altogether.
pub const ONSHUTDOWN: Duration = Duration::from_secs(20);
