//! The virtio socket device (virtio 1.3, 5.10).
//!
//! - [`packet`]: the header; [`credit`]: the window arithmetic; both pure.
//! - [`connection`]: the state machine of one connection over any nonblocking stream.
//! - [`muxer`]: all connections, the listeners, the requests that wait, and what goes to the guest next.
//! - [`queues`]: the virtqueues, pure: generic over guest memory, told when to signal.
//! - [`device`]: the above as one device for a transport to drive; [`handle`]: orders to it from other threads.
//!
//! Nothing here blocks: sockets are nonblocking, no address is ever dialed (whoever owns the device is asked to, and
//! hands over the connected stream), and a slow reader is held back by credit alone.

mod connection;
mod credit;
mod device;
mod handle;
mod knock;
mod limits;
mod muxer;
mod packet;
mod queues;
mod stream;
#[cfg(test)]
mod tests;

pub use device::Vsock;
pub use handle::{Dial, Handle};
