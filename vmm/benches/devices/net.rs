//! The network card: frames in either direction, with a host that fills and drains its wire.

use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use vm_memory::{Bytes, GuestAddress};
use vmm::devices::net::Net;

use crate::driver::{BUFFERS, Buffer, Driver};
use crate::host::Host;
use crate::measure::{Cost, Unit, row};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// `struct virtio_net_hdr` of a TCP segment whose checksum is left to the device, as Linux leaves each.
const HEADER: [u8; 12] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
const HEADER_SIZE: u32 = 12;
/// Before each frame on the wire.
const LENGTH: u64 = 4;
const APART: u64 = 0x1_1000;
/// Linux puts a frame into pieces of up to this size.
const PIECE: u32 = 32 * 1024;
const SENT_AT_A_TIME: u16 = 64;
/// Written by the host at a time.
const BURST: u64 = 256 * 1024;

pub(crate) fn measure() -> Result<()> {
    // Of each frame's length: how many, and the buffers that Linux gives for it.
    for (length, count, buffer) in [(65_535, 8192, 4096), (1500, 100_000, 1536)] {
        let unit = Unit::Bytes(length.into());
        row("net", &format!("frames of {length} bytes to the host"), (count, unit), |count| {
            to_host(length, count)
        })?;
        row("net", &format!("frames of {length} bytes to the guest"), (count, unit), |count| {
            to_guest(length, count, buffer)
        })?;
    }
    Ok(())
}

fn to_host(length: u32, count: u64) -> Result<Cost> {
    let (device, host) = UnixStream::pair()?;
    let mut driver = Driver::new(Net::new(device.into())?, 3, u64::from(SENT_AT_A_TIME) * APART)?;
    for place in 0..SENT_AT_A_TIME {
        driver.memory.write_slice(&HEADER, GuestAddress(place_of(place)))?;
    }
    let bytes = count * (LENGTH + u64::from(length));
    let host = Host::reads(host, bytes);
    Cost::of(|| {
        let first = length.min(PIECE);
        let chain = |place| {
            let at = place_of(place);
            [
                Buffer::filled(at, HEADER_SIZE),
                Buffer::filled(at + u64::from(HEADER_SIZE), first),
                Buffer::filled(at + u64::from(HEADER_SIZE + first), length - first),
            ]
        };
        driver.serve(TRANSMIT, (count, SENT_AT_A_TIME), chain)?;
        ensure!(driver.finish(host)? == bytes, "the host did not get all");
        Ok(())
    })
}

fn place_of(place: u16) -> u64 {
    BUFFERS + u64::from(place) * APART
}

/// The guest has buffers of such a length, which frames share.
fn to_guest(length: u32, count: u64, buffer: u32) -> Result<Cost> {
    let (device, host) = UnixStream::pair()?;
    let mut driver = Driver::new(Net::new(device.into())?, 1, 256 * u64::from(buffer))?;
    let chain = |place| [Buffer::to_fill(BUFFERS + u64::from(place) * u64::from(buffer), buffer)];
    for place in 0..driver.places(RECEIVE) {
        driver.offer(RECEIVE, place, &chain(place))?;
    }
    let frame = [&length.to_be_bytes()[..], &vec![7; usize::try_from(length)?]].concat();
    let frames = (BURST / u64::from(length)).min(count);
    let host = Host::writes(host, frame.repeat(usize::try_from(frames)?), count / frames);
    Cost::of(|| {
        let expected = count / frames * frames * u64::from(HEADER_SIZE + length);
        let mut bytes = 0;
        while bytes < expected {
            let goes_on = driver.process()?.goes_on();
            let before = bytes;
            while let Some(used) = driver.used_again(RECEIVE, chain)? {
                bytes += u64::from(used.length);
            }
            if bytes == before && !goes_on {
                driver.wait()?;
            }
        }
        host.moved()
    })
}
