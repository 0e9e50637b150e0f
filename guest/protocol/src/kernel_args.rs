//! Words that the supervisor appends to the kernel command line and init reads.

/// `mvm.clock=SECONDS`: the host's real time when the machine was started, as seconds since 1970.
pub const CLOCK: &str = "mvm.clock";
/// `mvm.net=ADDRESS/PREFIX,GATEWAY,DNS`: the address of eth0, IPv4.
pub const NET: &str = "mvm.net";
