//! What host and guest say to each other: vsock ports, the agent's RPC, and the words on the kernel command line.

pub mod agent;
pub mod kernel_args;
pub mod ports;
