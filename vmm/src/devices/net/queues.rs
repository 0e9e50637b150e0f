//! The queues (virtio 1.3, 5.1.6), pure: generic over memory, between the rings and the frames of the wire.

use std::io::{Read, Write};

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

use super::header::{self, Agreed};
use super::wire::{FRAME, Incoming, Outgoing, WireError};
use crate::devices::RingError;
use crate::devices::chain;

/// Frames of one direction before the other has its turn.
const FRAMES: usize = 256;

/// What a pass over a queue came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// The driver wants to be told of used buffers.
    pub(super) signal: bool,
    /// Stopped before the end, so that the other direction has its turn.
    pub(super) goes_on: bool,
    /// Frames wait for buffers of the driver's.
    pub(super) waits_for_driver: bool,
}

/// Why frames no longer move: the device fails by the one, and loses its cable by the other.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Takes frames off the driver, as far as the wire has room.
pub(super) fn transmit<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    outgoing: &mut Outgoing,
    agreed: Agreed,
) -> Result<Pass, RingError> {
    if !queue.ready() {
        return Ok(Pass::default());
    }
    let mut used = 0_usize;
    queue.disable_notification(memory)?;
    while outgoing.has_room() && used < FRAMES {
        let Some(mut chain) = chain::next(queue, memory)? else {
            if chain::await_more(queue, memory)? {
                continue;
            }
            break;
        };
        let mut header = [0; header::SIZE];
        let has_header = chain.readable.read_exact(&mut header).is_ok();
        let length = chain.readable.available();
        // What is no frame is lost, as on any wire.
        if has_header && FRAME.contains(&length) {
            outgoing.add(length, |frame| {
                chain.readable.read_exact(frame).ok()?;
                header::complete(header, agreed, frame)
            });
        }
        queue.add_used(memory, chain.head, 0)?;
        used = used.saturating_add(1);
    }
    let signal = used > 0 && queue.needs_notification(memory)?;
    Ok(Pass { signal, goes_on: used >= FRAMES, waits_for_driver: false })
}

/// Hands the driver the frames that have come, as far as it has buffers for them.
pub(super) fn receive<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    incoming: &mut Incoming,
    agreed: Agreed,
) -> Result<Pass, Trouble> {
    let mut pass = Pass::default();
    let mut frames = 0_usize;
    let mut is_told = false;
    loop {
        let frame = match incoming.first() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) if frames == 0 => return Err(error.into()),
            Err(_) => {
                // It is found again by the next pass. This one has something to tell the driver.
                pass.goes_on = true;
                break;
            }
        };
        if frames >= FRAMES {
            pass.goes_on = true;
            break;
        }
        match hand_out(queue, memory, frame, agreed)? {
            Handed::NoBuffers => {
                pass.waits_for_driver = true;
                break;
            }
            Handed::Used(chains) => is_told |= chains > 1,
            Handed::Lost => {}
        }
        incoming.skip();
        frames = frames.saturating_add(1);
    }
    // Of chains that came back together only the last is known to the queue, so they are always told.
    pass.signal = frames > 0 && (queue.needs_notification(memory).map_err(RingError::from)? || is_told);
    Ok(pass)
}

enum Handed {
    /// Into so many chains.
    Used(usize),
    /// It fits into no buffer of this driver's.
    Lost,
    NoBuffers,
}

fn hand_out<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    frame: &[u8],
    agreed: Agreed,
) -> Result<Handed, RingError> {
    let before = queue.next_avail();
    let size = header::SIZE.saturating_add(frame.len());
    let mut chains = Vec::new();
    let mut room = 0_usize;
    while room < size {
        let Some(chain) = chain::next(queue, memory)? else {
            if chain::await_more(queue, memory)? {
                continue;
            }
            queue.set_next_avail(before);
            return Ok(Handed::NoBuffers);
        };
        room = room.saturating_add(chain.writable.available());
        chains.push(chain);
        let is_full = !agreed.merges_buffers || chains.len() >= usize::from(queue.size());
        if is_full && room < size {
            queue.set_next_avail(before);
            return Ok(Handed::Lost);
        }
    }
    let header = header::for_driver(agreed, u16::try_from(chains.len()).unwrap_or(u16::MAX));
    let mut rest = [header.as_slice(), frame];
    let mut used = Vec::with_capacity(chains.len());
    for mut chain in chains {
        // Each but the last is filled; together they have the room.
        for bytes in &mut rest {
            let count = chain.writable.write(bytes).unwrap_or(0);
            *bytes = bytes.get(count..).unwrap_or_default();
        }
        used.push((chain.head, u32::try_from(chain.writable.done()).unwrap_or(u32::MAX)));
    }
    chain::give_back(queue, memory, &used)?;
    Ok(Handed::Used(used.len()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::devices::testing::{Buffer, Driver};

    const MERGING: Agreed = Agreed { checksums_are_ours: true, trusts_checksums: true, merges_buffers: true };
    const PLAIN: Agreed =
        Agreed { checksums_are_ours: false, trusts_checksums: false, merges_buffers: false };

    fn incoming(frames: &[&[u8]]) -> Incoming {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        for frame in frames {
            theirs.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
            theirs.write_all(frame).unwrap();
        }
        let mut incoming = Incoming::default();
        incoming.fill(&ours).unwrap();
        incoming
    }

    fn receive(driver: &mut Driver, incoming: &mut Incoming, agreed: Agreed) -> Pass {
        super::receive(&mut driver.queue, &driver.memory, incoming, agreed).unwrap()
    }

    #[test]
    fn a_frame_that_needs_several_chains_comes_back_in_all_of_them_at_once() {
        let frame: Vec<u8> = (0..1000_u32).map(|at| at as u8).collect();
        let mut incoming = incoming(&[&frame]);
        let mut driver = Driver::new();
        driver.offer_separately(&[600, 100]);
        let pass = receive(&mut driver, &mut incoming, MERGING);
        assert!(pass.waits_for_driver && !pass.signal);
        assert_eq!(driver.used().0, 0, "a part of a frame is no frame");
        driver.offer_separately(&[600]);
        assert!(receive(&mut driver, &mut incoming, MERGING).signal);
        assert_eq!(driver.used(), (3, 312));
        let whole = [driver.bytes(0, 600), driver.bytes(1, 100), driver.bytes(2, 312)].concat();
        assert_eq!(whole[..12], header::for_driver(MERGING, 3));
        assert!(whole[12..] == frame);
        assert!(!receive(&mut driver, &mut incoming, MERGING).waits_for_driver, "nothing is left");
    }

    #[test]
    fn frames_before_the_end_of_the_wire_are_told_of() {
        let mut incoming = incoming(&[&[1; 50], &[2; 13]]);
        let mut driver = Driver::new();
        driver.offer_separately(&[100, 100]);
        let pass = receive(&mut driver, &mut incoming, PLAIN);
        assert_eq!((pass.signal, pass.goes_on, driver.used().0), (true, true, 1));
        let error = super::receive(&mut driver.queue, &driver.memory, &mut incoming, PLAIN).unwrap_err();
        assert_eq!(error.to_string(), "the network process sent a frame of 13 bytes");
    }

    #[test]
    fn without_merging_a_frame_that_is_too_long_is_lost_and_the_buffer_kept() {
        let mut incoming = incoming(&[&[1; 200], &[2; 50]]);
        let mut driver = Driver::new();
        driver.offer_separately(&[100]);
        assert!(receive(&mut driver, &mut incoming, PLAIN).signal);
        assert_eq!(driver.used(), (1, 62));
        assert_eq!(driver.bytes(0, 62), [&[0; 10][..], &[1, 0], &[2; 50]].concat());
    }

    #[test]
    fn chains_without_room_cannot_gather_for_ever() {
        let mut incoming = incoming(&[&[1; 200]]);
        let mut driver = Driver::new();
        driver.offer_separately(&[0; 16]);
        let pass = receive(&mut driver, &mut incoming, MERGING);
        assert_eq!((pass.waits_for_driver, driver.used().0), (false, 0), "the frame is lost");
    }

    fn transmitted(chains: &[&[Buffer<'_>]], agreed: Agreed) -> Vec<u8> {
        let mut driver = Driver::new();
        let mut outgoing = Outgoing::default();
        for (count, chain) in (1..).zip(chains) {
            driver.send(chain);
            transmit(&mut driver.queue, &driver.memory, &mut outgoing, agreed).unwrap();
            assert_eq!(driver.used(), (count, 0));
        }
        outgoing.waiting().to_vec()
    }

    #[test]
    fn frames_leave_the_driver_without_their_header_and_behind_their_length() {
        let header = [0; 12];
        let one: &[Buffer<'_>] = &[Buffer::Filled(&header), Buffer::Filled(&[7; 14]), Buffer::Filled(&[8])];
        assert_eq!(transmitted(&[one], MERGING), [&[0, 0, 0, 15][..], &[7; 14], &[8]].concat());
    }

    #[test]
    fn what_is_no_frame_is_lost_and_its_buffers_come_back() {
        let long = vec![0; 12 + 65536];
        let short: &[Buffer<'_>] = &[Buffer::Filled(&[0; 12 + 13])];
        let no_header: &[Buffer<'_>] = &[Buffer::Filled(&[0; 11])];
        let wild = [1, 0, 0, 0, 0, 0, 0xff, 0xff, 2, 0, 0, 0];
        let wild: &[Buffer<'_>] = &[Buffer::Filled(&wild), Buffer::Filled(&[0; 100])];
        let chains = [short, no_header, &[Buffer::Filled(&long)], &[Buffer::ToFill(100)], wild];
        assert!(transmitted(&chains, MERGING).is_empty());
    }
}
