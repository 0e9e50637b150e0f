//! The virtqueues (virtio 1.3, 5.10.2): the driver's buffers in, ours out. Pure: no event loop, no transport.

use std::io::{Read, Write};
use std::time::Instant;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;
use vm_memory::bitmap::BitmapSlice;

use super::muxer::{Muxer, Next};
use super::packet::{HEADER_SIZE, Header, Op};
use crate::devices::RingError;
use crate::devices::chain::{self, Buffers, CHAINS};

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
) -> Result<Pass, RingError> {
    let mut pass = Pass::default();
    if !queue.ready() {
        return Ok(pass);
    }
    let (mut looks, mut any) = (0_usize, false);
    loop {
        queue.disable_notification(memory)?;
        while muxer.takes_packets() && looks < CHAINS {
            looks = looks.saturating_add(1);
            let Some(mut chain) = chain::next(queue, memory)? else { break };
            take_packet(&mut chain.readable, muxer, now);
            queue.add_used(memory, chain.head, 0)?;
            any = true;
        }
        pass.stalled = !muxer.takes_packets();
        pass.more = looks >= CHAINS;
        if pass.stalled || pass.more || !chain::await_more(queue, memory)? {
            break;
        }
    }
    pass.signal = any && queue.needs_notification(memory)?;
    Ok(pass)
}

/// Header and data may lie in one descriptor or be cut anywhere (virtio 1.3, 2.7.4).
fn take_packet(from: &mut impl Read, muxer: &mut Muxer, now: Instant) {
    let mut header = [0; HEADER_SIZE];
    if from.read_exact(&mut header).is_ok() {
        muxer.guest_packet(&Header::decode(&header), from, now);
    }
}

/// Hands out what waits for the guest, as far as it has buffers.
pub(super) fn hand_out<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    muxer: &mut Muxer,
    now: Instant,
) -> Result<Pass, RingError> {
    let mut pass = Pass::default();
    let mut used = 0_usize;
    while let Some(next) = muxer.next_packet() {
        if used >= CHAINS {
            pass.more = true;
            break;
        }
        let Some(mut chain) = chain::next(queue, memory)? else {
            if chain::await_more(queue, memory)? {
                continue;
            }
            break;
        };
        let written = hand_out_packet(&mut chain.writable, muxer, next, now);
        queue.add_used(memory, chain.head, written)?;
        used = used.saturating_add(1);
    }
    pass.signal = used > 0 && queue.needs_notification(memory)?;
    Ok(pass)
}

/// Returns the bytes written: none into a buffer that is too small for the packet, which then waits for another.
fn hand_out_packet<B: BitmapSlice>(
    to: &mut Buffers<'_, B>,
    muxer: &mut Muxer,
    next: Next,
    now: Instant,
) -> u32 {
    let Some(room) = to.available().checked_sub(HEADER_SIZE) else { return 0 };
    if room == 0 && matches!(next, Next::Of(_, Op::Data)) {
        return 0;
    }
    muxer.take_packet(next, room, now, |header, data| {
        // It has room for both, so this cannot fail.
        let _ = to.write_all(&header.encode()).and_then(|()| to.write_all(data));
    });
    u32::try_from(to.done()).unwrap_or(u32::MAX)
}
