//! vsock: connections, single bytes, and large packets in either direction, with a guest that keeps to the rules of credit.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Result, bail, ensure};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::vsock::{Handle, Vsock};

use crate::driver::{BUFFERS, Buffer, Driver};
use crate::host::Host;
use crate::measure::{Cost, Unit, row};

const TO_GUEST: usize = Vsock::TO_GUEST as usize;
const FROM_GUEST: usize = Vsock::FROM_GUEST as usize;

const HOST: u32 = 2;
const GUEST: u32 = 3;
const PORT: u32 = 1000;

/// The header (virtio 1.3, 5.10.6), and what it says that a packet does.
const HEADER: u32 = 44;
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

/// The largest packet that Linux sends, and the buffers that it gives for packets, with their headers.
const LARGE: u32 = 64 * 1024;
const BUFFER: u32 = 4096;
/// What may be on the way to the guest; it tells when it has read three quarters of that.
const WINDOW: u32 = 256 * 1024;

const APART: u64 = 0x1_1000;
/// The guest's packets stand behind the buffers that it gives, in places that are used in turn.
const TO_FILL: u16 = 128;
const SENT: u16 = 32;

pub(crate) fn measure() -> Result<()> {
    row("vsock", "a connection, from its request to its end", (20_000, Unit::Operation), connections)?;
    row("vsock", "a byte to the guest, and one back", (50_000, Unit::Operation), exchange)?;
    let large = (8192, Unit::Bytes(LARGE.into()));
    row("vsock", "packets of 64 KiB to the host", large, to_host)?;
    row("vsock", "64 KiB to the guest in one packet", large, |count| to_guest(count, HEADER + LARGE))?;
    row("vsock", "64 KiB to the guest in packets of 4 KiB with their headers", large, |count| {
        to_guest(count, BUFFER)
    })
}

fn connections(count: u64) -> Result<Cost> {
    let mut guest = Guest::new(BUFFER)?;
    Cost::of(|| {
        for _ in 0..count {
            let host = guest.connect()?;
            drop(host);
            guest.until(|guest| !guest.is_connected)?;
        }
        Ok(())
    })
}

fn exchange(count: u64) -> Result<Cost> {
    let mut guest = Guest::new(BUFFER)?;
    let mut host = guest.connect()?;
    let mut byte = [0];
    Cost::of(|| {
        for number in 1..=u32::try_from(count)? {
            host.write_all(&byte)?;
            guest.until(|guest| guest.received == number)?;
            guest.send(DATA, 1)?;
            guest.turn()?;
            host.read_exact(&mut byte)?;
        }
        Ok(())
    })
}

fn to_host(count: u64) -> Result<Cost> {
    let mut guest = Guest::new(BUFFER)?;
    let host = Host::reads(guest.connect()?, count * u64::from(LARGE));
    Cost::of(|| {
        for _ in 0..count {
            guest.until(|guest| guest.credit() >= LARGE)?;
            guest.send(DATA, LARGE)?;
        }
        ensure!(guest.driver.finish(host)? == count * u64::from(LARGE), "the host did not get all");
        Ok(())
    })
}

fn to_guest(count: u64, buffer: u32) -> Result<Cost> {
    let mut guest = Guest::new(buffer)?;
    let all = u32::try_from(count)? * LARGE;
    let host = Host::writes(guest.connect()?, vec![7; LARGE.try_into()?], count);
    Cost::of(|| {
        guest.until(|guest| guest.received == all)?;
        host.moved()
    })
}

struct Guest {
    driver: Driver<Vsock>,
    handle: Handle,
    /// The length of the buffers that it gives, a packet each.
    buffer: u32,
    packets: u16,
    host_port: u32,
    is_connected: bool,
    /// Bytes of the connection in either direction, and what either side last heard of how many the other has read.
    sent: u32,
    forwarded: u32,
    received: u32,
    told: u32,
    /// The host's window.
    window: u32,
}

impl Guest {
    fn new(buffer: u32) -> Result<Self> {
        let (device, handle) = Vsock::new(GUEST, |_| {})?;
        let driver = Driver::new(device, 2, u64::from(TO_FILL + SENT) * APART)?;
        let mut guest = Self {
            driver,
            handle,
            buffer,
            packets: 0,
            host_port: 0,
            is_connected: false,
            sent: 0,
            forwarded: 0,
            received: 0,
            told: 0,
            window: 0,
        };
        for place in 0..TO_FILL {
            guest.driver.offer(TO_GUEST, place, &[to_fill(place, buffer)])?;
        }
        Ok(guest)
    }

    /// A connection of the host's; its end there.
    fn connect(&mut self) -> Result<UnixStream> {
        let (device, host) = UnixStream::pair()?;
        self.handle.connect(PORT, Vec::new(), device.into());
        self.until(|guest| guest.is_connected)?;
        // It hears the answer.
        self.turn()?;
        Ok(host)
    }

    /// Has the device work until this is so.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        while !is_so(self) {
            if !self.turn()? && !is_so(self) {
                self.driver.wait()?;
            }
        }
        Ok(())
    }

    /// Has the device work once, and follows what it sends; whether it sent anything.
    fn turn(&mut self) -> Result<bool> {
        self.driver.process()?;
        while self.driver.used(FROM_GUEST)?.is_some() {}
        let (mut any, buffer) = (false, self.buffer);
        while let Some(used) = self.driver.used_again(TO_GUEST, |place| [to_fill(place, buffer)])? {
            any = true;
            let header = self.driver.memory.read_obj(GuestAddress(at(used.place)))?;
            self.follow(header)?;
        }
        Ok(any)
    }

    fn follow(&mut self, header: [u32; 11]) -> Result<()> {
        let [.., from, _, length, kind_and_op, _, window, forwarded] = header;
        (self.window, self.forwarded) = (window, forwarded);
        match u16::try_from(kind_and_op >> 16)? {
            REQUEST => {
                self.host_port = from;
                (self.sent, self.received, self.told, self.is_connected) = (0, 0, 0, true);
                self.send(RESPONSE, 0)
            }
            DATA => {
                self.received = self.received.wrapping_add(length);
                let is_due = self.received.wrapping_sub(self.told) >= WINDOW / 4 * 3;
                if is_due { self.send(CREDIT_UPDATE, 0) } else { Ok(()) }
            }
            SHUTDOWN => {
                self.is_connected = false;
                self.send(RESET, 0)
            }
            CREDIT_REQUEST => self.send(CREDIT_UPDATE, 0),
            CREDIT_UPDATE => Ok(()),
            op => bail!("the device sent a packet of kind {op}"),
        }
    }

    /// What the guest may send.
    fn credit(&self) -> u32 {
        self.window - self.sent.wrapping_sub(self.forwarded)
    }

    fn send(&mut self, op: u16, length: u32) -> Result<()> {
        let place = self.packets % SENT;
        self.packets = self.packets.wrapping_add(1);
        self.sent = self.sent.wrapping_add(length);
        self.told = self.received;
        let address = at(TO_FILL + place);
        let kind_and_op = 1 | u32::from(op) << 16;
        let header = [GUEST, 0, HOST, 0, PORT, self.host_port, length, kind_and_op, 0, WINDOW, self.told];
        self.driver.memory.write_obj(header, GuestAddress(address))?;
        let data = Buffer::filled(address + u64::from(HEADER), length);
        let chain = [Buffer::filled(address, HEADER), data];
        self.driver.offer(FROM_GUEST, place, if length == 0 { &chain[..1] } else { &chain })
    }
}

fn to_fill(place: u16, length: u32) -> Buffer {
    Buffer::to_fill(at(place), length)
}

fn at(place: u16) -> u64 {
    BUFFERS + u64::from(place) * APART
}
