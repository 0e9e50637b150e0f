//! The virtqueues (virtio 1.3, 5.10.2): the driver's buffers in, ours out. Pure: no event loop, no transport.
//!
//! What is wrong with one chain costs the chain (it is used with no bytes); what is wrong with a ring stops it, because
//! from then on nothing in it can be believed.

use std::io::{self, Read, Write};
use std::time::Instant;

use virtio_queue::{Error as RingError, Queue, QueueOwnedT, QueueT, Reader, Writer};
use vm_memory::GuestMemory;

use super::limits::CHAINS;
use super::muxer::{Muxer, Next};
use super::packet::{HEADER_SIZE, Header, Op};

/// A ring that can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the guest broke a vsock ring")]
    Ring(#[from] RingError),
    #[error("a vsock buffer cannot be written")]
    Write(#[from] io::Error),
}

/// What a pass over a queue came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// The driver wants to be told of used buffers.
    pub(super) signal: bool,
    /// Stopped before the end, so that others have their turn.
    pub(super) more: bool,
    /// Stopped because nothing more may be taken in until the guest has read answers.
    pub(super) stalled: bool,
}

/// Takes in what the driver sent.
pub(super) fn take_in<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    muxer: &mut Muxer,
    now: Instant,
) -> Result<Pass, QueueError> {
    let mut pass = Pass::default();
    let mut used = 0_usize;
    loop {
        queue.disable_notification(memory)?;
        while muxer.takes_packets() && used < CHAINS {
            let Some(chain) = queue.iter(memory)?.next() else { break };
            let head = chain.head_index();
            if let Ok(mut reader) = Reader::new(memory, chain) {
                take_packet(&mut reader, muxer, now);
            }
            queue.add_used(memory, head, 0)?;
            used = used.saturating_add(1);
        }
        pass.stalled = !muxer.takes_packets();
        pass.more = used >= CHAINS;
        if pass.stalled || pass.more || !queue.enable_notification(memory)? {
            break;
        }
    }
    pass.signal = used > 0 && queue.needs_notification(memory)?;
    Ok(pass)
}

/// Header and data may lie in one descriptor or be cut anywhere (virtio 1.3, 2.7.4).
fn take_packet(reader: &mut impl Read, muxer: &mut Muxer, now: Instant) {
    let mut header = [0; HEADER_SIZE];
    if reader.read_exact(&mut header).is_ok() {
        muxer.guest_packet(&Header::decode(&header), reader, now);
    }
}

/// Hands out what waits for the guest, as far as it has buffers.
pub(super) fn hand_out<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    muxer: &mut Muxer,
    now: Instant,
) -> Result<Pass, QueueError> {
    let mut pass = Pass::default();
    let mut used = 0_usize;
    while let Some(next) = muxer.next_packet() {
        if used >= CHAINS {
            pass.more = true;
            break;
        }
        let Some(chain) = queue.iter(memory)?.next() else {
            if queue.enable_notification(memory)? {
                continue;
            }
            break;
        };
        let head = chain.head_index();
        let written = match Writer::new(memory, chain) {
            Ok(mut writer) => hand_out_packet(&mut writer, muxer, next, now)?,
            Err(_) => 0,
        };
        queue.add_used(memory, head, written)?;
        used = used.saturating_add(1);
    }
    pass.signal = used > 0 && queue.needs_notification(memory)?;
    Ok(pass)
}

/// Returns the bytes written: none into a buffer that is too small for the packet, which then waits for another.
fn hand_out_packet<B: vm_memory::bitmap::BitmapSlice>(
    writer: &mut Writer<'_, B>,
    muxer: &mut Muxer,
    next: Next,
    now: Instant,
) -> Result<u32, QueueError> {
    let Some(room) = writer.available_bytes().checked_sub(HEADER_SIZE) else { return Ok(0) };
    if room == 0 && matches!(next, Next::Of(_, Op::Data)) {
        return Ok(0);
    }
    muxer.take_packet(next, room, now, |header, data| {
        writer.write_all(&header.encode())?;
        writer.write_all(data)
    })?;
    Ok(u32::try_from(writer.bytes_written()).unwrap_or(u32::MAX))
}
