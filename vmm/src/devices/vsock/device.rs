//! The device as a transport drives it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::Queue;
use vm_memory::GuestMemory;

use super::handle::{Dial, Handle, Owner};
use super::muxer::Muxer;
use super::queues;
use crate::devices::{Device, RingError, Signals, read_space};
use crate::memory::Memory;

/// One guest's vsock device. A transport calls [`Vsock::process`] from one thread, whenever the driver has kicked a
/// queue or the device's descriptor is readable.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: u64,
    muxer: Muxer,
    active: bool,
    broken: bool,
}

impl Vsock {
    /// Queue of buffers that the device fills (virtio 1.3, 5.10.2).
    pub const TO_GUEST: u32 = 0;
    /// Queue of buffers that the driver has filled.
    pub const FROM_GUEST: u32 = 1;

    /// What the guest wants of the host goes to `ask`, to be answered through the handle. `ask` has to return at once.
    pub fn new(guest_cid: u32, ask: impl FnMut(Dial) + Send + 'static) -> io::Result<(Self, Handle)> {
        let guest_cid = u64::from(guest_cid);
        let (muxer, handle) = Muxer::new(guest_cid, Owner::new(ask))?;
        Ok((Self { guest_cid, muxer, active: false, broken: false }, handle))
    }

    /// The feature bits that are offered.
    #[must_use]
    pub fn features() -> u64 {
        [VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC]
            .into_iter()
            .fold(0, |bits, bit| bits | 1_u64.wrapping_shl(bit))
    }

    /// The configuration space (virtio 1.3, 5.10.4): the guest's context id.
    #[must_use]
    pub fn config(&self) -> [u8; 8] {
        self.guest_cid.to_le_bytes()
    }

    /// The driver has set the device up.
    pub fn activate(&mut self, now: Instant) {
        if !self.active {
            self.active = true;
            self.broken = false;
            self.muxer.driver_up(now);
        }
    }

    /// The driver has reset the device, or is gone.
    pub fn reset(&mut self) {
        if self.active {
            self.active = false;
            self.muxer.driver_down();
        }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The driver broke a ring: the device needs a reset (virtio 1.3, 2.1.2) and does nothing until then.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.broken
    }

    /// How many connections there are, those that only drain included.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.muxer.count()
    }

    /// Handles the host's side while the guest has no driver: connections are accepted and wait.
    pub fn process_host(&mut self, now: Instant) {
        self.host_events(now);
        self.arm();
    }

    /// Does whatever can be done now, and returns. After an error the device does nothing until it is reset.
    pub fn process<M: GuestMemory>(
        &mut self,
        memory: &M,
        to_guest: &mut Queue,
        from_guest: &mut Queue,
        now: Instant,
    ) -> Result<Signals, RingError> {
        self.host_events(now);
        let signals = if self.active && !self.broken {
            self.queues(memory, to_guest, from_guest, now)
        } else {
            Ok(Signals::default())
        };
        if signals.is_err() {
            self.broke();
        }
        self.arm();
        signals
    }

    /// Whoever wants to reach the guest is refused from now on, until the driver has reset the device.
    fn broke(&mut self) {
        (self.active, self.broken) = (true, true);
        self.muxer.driver_broke();
    }

    fn queues<M: GuestMemory>(
        &mut self,
        memory: &M,
        to_guest: &mut Queue,
        from_guest: &mut Queue,
        now: Instant,
    ) -> Result<Signals, RingError> {
        let taken = queues::take_in(from_guest, memory, &mut self.muxer, now)?;
        let handed = queues::hand_out(to_guest, memory, &mut self.muxer, now)?;
        let goes_on = taken.stalled && self.muxer.takes_packets();
        if taken.more || handed.more || goes_on {
            self.muxer.come_back();
        }
        let mut signals = Signals::default();
        signals.add(Self::FROM_GUEST, taken.signal);
        signals.add(Self::TO_GUEST, handed.signal);
        Ok(signals)
    }

    fn host_events(&mut self, now: Instant) {
        if let Err(error) = self.muxer.host_events(now) {
            tracing::error!(%error, "the vsock device cannot poll its sockets");
        }
    }

    fn arm(&mut self) {
        if let Err(error) = self.muxer.arm() {
            tracing::error!(%error, "the vsock device cannot set its timer");
        }
    }
}

impl Device for Vsock {
    fn id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    /// To the guest, from the guest, and events, of which there are none (virtio 1.3, 5.10.2).
    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256, 16]
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_space(&self.config(), offset, data);
    }

    fn activate(&mut self, _features: u64, now: Instant) {
        Self::activate(self, now);
    }

    fn reset(&mut self) {
        Self::reset(self);
    }

    fn broke(&mut self) {
        Self::broke(self);
    }

    fn process(&mut self, memory: &Memory, queues: &mut [Queue], now: Instant) -> Result<Signals, RingError> {
        let [to_guest, from_guest, ..] = queues else {
            self.process_host(now);
            return Ok(Signals::default());
        };
        Self::process(self, memory, to_guest, from_guest, now)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.muxer.descriptor())
    }
}

impl AsRawFd for Vsock {
    /// Readable when [`Vsock::process`] has something to do on the host's side.
    fn as_raw_fd(&self) -> RawFd {
        self.muxer.descriptor().as_raw_fd()
    }
}
