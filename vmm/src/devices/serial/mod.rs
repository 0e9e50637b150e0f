//! The first serial port of a PC, for what a kernel says before it has found any other console. It only sends.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial as Port, Trigger};

use super::line::Line;
use crate::bus::Registers;

/// The data register of the 16550.
const DATA: u64 = 0;

/// The port, on a socket or a pipe that does not block.
pub struct Serial(Mutex<Port<Interrupt, NoEvents, Lossy>>);

impl Serial {
    pub fn new(line: Line, output: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Self(Mutex::new(Port::new(Interrupt(line), Lossy(output)))))
    }

    /// As a vCPU does it that writes a byte to the port. For the benchmark, which has no bus.
    #[doc(hidden)]
    pub fn send(&self, byte: u8) {
        self.write(DATA, &[byte]);
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serial")
    }
}

impl Registers for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let (Ok(offset), [byte]) = (u8::try_from(offset), data) else { return };
        *byte = self.0.lock().unwrap_or_else(PoisonError::into_inner).read(offset);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(offset), [byte]) = (u8::try_from(offset), data) else { return };
        // It fails where its buffer for what is sent to the guest is full, which is never used.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write(offset, *byte);
    }
}

struct Interrupt(Line);

impl Trigger for Interrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.raise();
        Ok(())
    }
}

/// What the reader does not take is lost, as on a wire: no vCPU waits for whoever reads.
struct Lossy(OwnedFd);

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = rustix::io::write(&self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Its register of interrupts that are wanted, with the bit for an empty transmitter.
    const ENABLE: u64 = 1;
    const TRANSMITTER_IS_EMPTY: u8 = 2;

    fn port() -> (Serial, UnixStream, Arc<AtomicU32>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let raised = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&raised);
        let line = Line::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (Serial::new(line, theirs.into()).unwrap(), ours, raised)
    }

    #[test]
    fn bytes_come_out_and_the_guest_is_told_when_it_may_send_more() {
        let (port, mut reader, raised) = port();
        port.write(ENABLE, &[TRANSMITTER_IS_EMPTY]);
        for byte in *b"hello" {
            port.write(DATA, &[byte]);
        }
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(text, *b"hello");
        assert!(raised.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn accesses_of_other_lengths_are_ignored() {
        // Cloud Hypervisor #8405: a short one panicked.
        let (port, _reader, _) = port();
        port.write(DATA, &[1, 2]);
        port.write(DATA, &[]);
        port.write(u64::MAX, &[1]);
        let mut data = [0xff; 4];
        port.read(DATA, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nothing_up() {
        let (port, _reader, _) = port();
        for _ in 0..1_000_000 {
            port.write(DATA, b"x");
        }
    }
}
