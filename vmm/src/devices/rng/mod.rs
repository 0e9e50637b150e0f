//! The entropy device (virtio 1.3, 5.4): one queue of buffers, filled from the host's generator.

mod queues;

use std::time::Instant;

use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_queue::Queue;

use super::{Device, RingError, Signals};
use crate::memory::Memory;

/// Fills what the guest asks for. It has no state.
#[derive(Debug)]
pub struct Rng;

impl Device for Rng {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [Queue],
        _now: Instant,
    ) -> Result<Signals, RingError> {
        let mut signals = Signals::default();
        if let [queue] = queues {
            let pass = queues::fill(queue, memory, crate::platform::random)?;
            signals.add(0, pass.signal);
            signals.go_on(pass.goes_on);
        }
        Ok(signals)
    }
}
