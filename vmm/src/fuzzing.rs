//! What the fuzz targets (`tests/fuzz`) reach of the inside: doors, and nothing behind them that is not elsewhere.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use virtio_queue::Queue;

use crate::bus::Registers;
use crate::devices::{Device, Line, RingError, chain};
use crate::engine::tcg;
use crate::memory::Memory;
use crate::transport::mmio;

/// A descriptor chain, as devices get it.
#[derive(Debug)]
pub struct Chain<'m> {
    pub head: u16,
    pub readable: Buffers<'m>,
    pub writable: Buffers<'m>,
}

#[derive(Debug)]
pub struct Buffers<'m>(chain::Buffers<'m, ()>);

/// The next chain of a queue.
pub fn next_chain<'m>(queue: &mut Queue, memory: &'m Memory) -> Result<Option<Chain<'m>>, RingError> {
    let chain = chain::next(queue, memory)?;
    Ok(chain.map(|chain| Chain {
        head: chain.head,
        readable: Buffers(chain.readable),
        writable: Buffers(chain.writable),
    }))
}

pub fn give_back(queue: &mut Queue, memory: &Memory, chains: &[(u16, u32)]) -> Result<(), RingError> {
    chain::give_back(queue, memory, chains)
}

impl Buffers<'_> {
    #[must_use]
    pub fn available(&self) -> usize {
        self.0.available()
    }

    #[must_use]
    pub fn done(&self) -> usize {
        self.0.done()
    }

    /// The lengths of the pieces that are left.
    #[must_use]
    pub fn rest(&self, most: usize) -> Vec<usize> {
        self.0.rest(most).iter().map(vm_memory::VolatileSlice::len).collect()
    }
}

impl Read for Buffers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffers<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A device behind its registers, as vCPUs and the device's thread have it.
#[derive(Debug)]
pub struct Mmio {
    registers: mmio::Mmio,
    slot: Arc<mmio::Slot>,
}

impl Mmio {
    pub fn new(device: Box<dyn Device>, memory: Memory, line: Line) -> io::Result<Self> {
        let slot = Arc::new(mmio::Slot::new("fuzzed", device, memory, line)?);
        Ok(Self { registers: mmio::Mmio::new(Arc::clone(&slot)), slot })
    }

    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.registers.read(offset, data);
    }

    pub fn write(&self, offset: u64, data: &[u8]) {
        self.registers.write(offset, data);
    }

    pub fn process(&self, now: Instant) {
        self.slot.process(now);
    }
}

/// Follows what QEMU says over QMP to its end; as text, what came of it.
pub fn follow_qemu(socket: UnixStream, mut tell: impl FnMut(String)) -> io::Result<()> {
    tcg::follow(socket, |said| tell(format!("{said:?}")))
}

/// The version in what `qemu --version` prints.
#[must_use]
pub fn qemu_version(said: &str) -> Option<tcg::Version> {
    tcg::parse_version(said)
}
