//! The memory balloon (virtio 1.3, 5.5): how the guest gives memory back to the host.
//!
//! Above all it reports the pages that it does not use, by itself and while it is idle. Beside that it can be asked to give
//! up so much from the start; it takes that back when it runs out of memory.

mod queues;

use std::time::Instant;

use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::Queue;

use super::{Device, RingError, Signals, read_space};
use crate::memory::Memory;
use crate::platform;

// Features (5.5.3): the guest may take memory back when it runs out, and tells which pages it does not use.
const DEFLATE_ON_OOM: u32 = 2;
const REPORTING_PAGES: u32 = 5;

/// What the device counts in, whatever the pages of guest and host are (5.5.6).
const PAGE: u64 = 4096;

// The queues. Those of features that are not offered do not exist, and do not count.
const INFLATE: u32 = 0;
const DEFLATE: u32 = 1;
const REPORTING: u32 = 2;

/// The balloon.
#[derive(Debug)]
pub struct Balloon {
    /// Pages that the guest is asked for, and that it says it has given up.
    target: u32,
    actual: [u8; 4],
}

impl Balloon {
    /// A balloon that asks for so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { target: u32::try_from(bytes / PAGE).unwrap_or(u32::MAX), actual: [0; 4] }
    }
}

impl Device for Balloon {
    fn id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        1 << DEFLATE_ON_OOM | 1 << REPORTING_PAGES
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[128, 128, 128]
    }

    /// `struct virtio_balloon_config` (5.5.4): pages asked for, pages given up.
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let [a, b, c, d] = self.target.to_le_bytes();
        let [e, f, g, h] = self.actual;
        read_space(&[a, b, c, d, e, f, g, h], offset, data);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        // The guest's own count is only kept for it.
        let Some(start) = offset.checked_sub(4) else { return };
        for (to, from) in self.actual.iter_mut().skip(start).zip(data) {
            *to = *from;
        }
    }

    fn reset(&mut self) {
        self.actual = [0; 4];
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [Queue],
        _now: Instant,
    ) -> Result<Signals, RingError> {
        let mut signals = Signals::default();
        if let [inflate, deflate, reporting] = queues {
            for (number, pass) in [
                (INFLATE, queues::inflate(inflate, memory, platform::give_back)?),
                (DEFLATE, queues::deflate(deflate, memory)?),
                (REPORTING, queues::report(reporting, memory, platform::give_back)?),
            ] {
                signals.add(number, pass.signal);
                signals.go_on(pass.goes_on);
            }
        }
        Ok(signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reads_what_is_asked_for_and_writes_what_it_gave() {
        let mut balloon = Balloon::new(5 << 20);
        balloon.write_config(0, &[9; 4]);
        balloon.write_config(4, &[1, 2, 3, 4]);
        balloon.write_config(100, &[9; 4]);
        let mut config = [0xff; 10];
        balloon.read_config(0, &mut config);
        assert_eq!(config, [0, 5, 0, 0, 1, 2, 3, 4, 0xff, 0xff]);
        // Cloud Hypervisor #7903: one that had given more than it has made the host count below nothing.
        balloon.write_config(4, &[0xff; 4]);
        balloon.read_config(4, &mut config[..4]);
        assert_eq!(config[..4], [0xff; 4], "nobody counts with it");
    }
}
