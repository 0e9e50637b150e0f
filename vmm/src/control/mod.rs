//! What the supervisor and the process of one machine say to each other, and the socket pair that carries it.
//!
//! The messages are plain types ([`message`]); a [`frame`] is a message behind its length, with at most one
//! descriptor. [`Channel`] is the machine's blocking end, [`SupervisorEnd`] the supervisor's asynchronous one.

mod channel;
mod frame;
mod message;
mod supervisor_end;

pub use channel::{Channel, ChannelReader};
pub use frame::{ChannelError, MAX_MESSAGE};
pub use message::{Engine, FromMachine, MachineConfig, Outcome, ToMachine};
pub use supervisor_end::{MachineReceiver, MachineSender, SupervisorEnd};
