//! A driver that does everything that a guest must not, and afterwards uses each device as it should be used.
//!
//! It only composes accesses; who makes them is a [`Machine`]: a scripted hypervisor in the process of the machine under
//! test (vmm/tests/hostile), or a guest of a real one (`rig.do=hostile`).
#![allow(clippy::cast_possible_truncation)]

mod attack;
mod driver;
mod host;
mod random;
mod rightly;

use std::ops::Range;

pub use driver::Driver;
pub use host::babble;
pub use rightly::Progress;

/// What each device has of the address space.
pub const DEVICE_SIZE: u64 = 0x1000;
/// A sector that the guest writes when it uses the disk rightly.
pub const SECTOR: [u8; 512] = [0x77; 512];
/// What it prints when it uses the console rightly.
pub const LINE: &str = "a line\n";
/// A frame that the network has for the guest, without its header.
pub const FRAME: [u8; 1400] = [0xaa; 1400];

// Devices by their places.
const CONSOLE: u64 = 0;
const ENTROPY: u64 = 1;
const DISK: u64 = 2;
const BALLOON: u64 = 3;
const NETWORK: u64 = 4;
const VSOCK: u64 = 5;

/// An access outside of memory.
#[derive(Debug, Clone)]
pub enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    PortRead(u16, usize),
    PortWrite(u16, Vec<u8>),
}

/// What makes the accesses: at once or later, but in their order.
pub trait Machine {
    fn access(&mut self, access: Access);
    /// Memory of the driver's own.
    fn put(&mut self, at: u64, bytes: &[u8]);
    fn get(&self, at: u64, length: usize) -> Vec<u8>;
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The first device. The others follow it: console, entropy, disk, balloon, network, and vsock if there are six.
    pub devices: u64,
    pub count: u64,
    /// Memory for rings and buffers, which nobody else uses, and neither what follows it for as long as an area of each
    /// device. Devices are told to write there or where no memory is.
    pub own: Range<u64>,
    /// Where all memory ends.
    pub end: u64,
    /// Whether devices may also be told what comes by chance: nothing but the driver lives in this machine.
    pub may_harm_itself: bool,
}
