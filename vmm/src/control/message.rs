//! The messages themselves.
//!
//! Each message is one JSON object behind its length (four bytes, little endian); at most one descriptor travels
//! with it (`SCM_RIGHTS`). The first message is [`ToMachine::Start`]. Whichever side closes the socket ends the
//! machine: it is the lifeline.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the machine's parts lie and how large it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    pub engine: Engine,
    pub cpus: u8,
    pub memory_mib: u32,
    pub kernel: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
    /// The root image, `/dev/vda` of the guest, read-only.
    pub root: PathBuf,
    /// The data disk, `/dev/vdb`, raw and sparse.
    pub data: PathBuf,
    /// Where the guest's console is written.
    pub console: PathBuf,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// QEMU as the processor; `command` is the program and what has to stand before its options.
    Tcg { command: Vec<String> },
    /// Our own vCPUs on KVM.
    Kvm,
}

impl Engine {
    /// As users know it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcg { .. } => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToMachine {
    /// Starts the machine; its descriptor is the stream socket to the network process.
    Start(MachineConfig),
    /// Accept on the listener that comes with this, and join each connection to a port of the guest.
    Listen { guest_port: u32 },
    /// Stop accepting for that port; connections that stand go on.
    Unlisten { guest_port: u32 },
    /// Join the stream that comes with this to a port of the guest, after `preamble` has been sent there.
    Connect { guest_port: u32, preamble: Vec<u8> },
    /// The answer to [`FromMachine::Dial`]; the connected stream comes with it.
    Dialed { id: u64 },
    /// The other answer to it: the guest's connection is reset.
    Refused { id: u64 },
    /// Pull the plug.
    Kill,
}

/// From the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromMachine {
    /// The processor runs. What the machine does without on this host comes along, as sentences.
    Started { lacks: Vec<String> },
    /// The guest wants a port of the host. Nothing but the supervisor's allow-list decides.
    Dial { id: u64, port: u32 },
    /// The machine is over; the last message.
    Ended(Outcome),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest reset itself, as after a kernel panic.
    Reset,
    /// The supervisor asked for it, or went away.
    Killed,
    /// The engine failed; a sentence that says how, with its last words.
    Failed(String),
}
