//! How driver and device agree (virtio 1.3, 3.1 and 4.2.2): a state machine on plain numbers.

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};

use crate::devices::Device;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"mvm ");

// Bits of the device status (2.1).
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const INDIRECT: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What a write has brought about.
#[derive(Debug)]
pub(super) enum Change {
    /// The driver is up.
    Up { features: u64, queues: Vec<Queue> },
    /// It has reset the device.
    Down,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    device_id: u32,
    offered: u64,
    offered_half: u32,
    accepted: u64,
    accepted_half: u32,
    queue: usize,
    queues: Vec<Queue>,
    status: u32,
}

impl Negotiation {
    pub(super) fn new(device: &dyn Device) -> Self {
        let queues = device.queue_sizes().iter().filter_map(|size| Queue::new(*size).ok()).collect();
        Self {
            device_id: device.id(),
            offered: device.features() | VERSION_1 | EVENT_IDX | INDIRECT,
            offered_half: 0,
            accepted: 0,
            accepted_half: 0,
            queue: 0,
            queues,
            status: 0,
        }
    }

    pub(super) fn read(&self, register: u64) -> u32 {
        match register {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device_id,
            0x00c => VENDOR,
            0x010 => half(self.offered, self.offered_half),
            0x034 => self.queues.get(self.queue).map_or(0, |queue| queue.max_size().into()),
            0x044 => self.queues.get(self.queue).is_some_and(QueueT::ready).into(),
            0x070 => self.status,
            // No shared memory: its length is all ones (4.2.2). 0x0fc: the configuration never changes under a reader.
            0x0b0..=0x0bc => u32::MAX,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, register: u64, value: u32) -> Option<Change> {
        match register {
            0x014 => self.offered_half = value,
            0x020 => self.accept(value),
            0x024 => self.accepted_half = value,
            0x030 => self.queue = usize::try_from(value).unwrap_or(usize::MAX),
            0x038..=0x0a4 if register != 0x070 => self.set_up_queue(register, value),
            0x070 => return self.set_status(value),
            _ => {}
        }
        None
    }

    /// Features are agreed on while the driver knows the device and before it says that they are.
    fn accept(&mut self, value: u32) {
        if self.status & (DRIVER | FEATURES_OK) != DRIVER {
            return;
        }
        match self.accepted_half {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | u64::from(value),
            1 => self.accepted = (self.accepted & 0xffff_ffff) | u64::from(value) << 32,
            _ => {}
        }
    }

    /// Queues are set up between the agreement and the start; one that is ready stays as it is. From the start on nothing
    /// stops a single queue: drivers reset the device, and the feature that does it otherwise (RING_RESET) is not offered.
    fn set_up_queue(&mut self, register: u64, value: u32) {
        let in_time = self.status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK;
        let Some(queue) = self.queues.get_mut(self.queue).filter(|_| in_time) else { return };
        if queue.ready() && register != 0x044 {
            return;
        }
        match register {
            0x038 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x044 => {
                queue.set_event_idx(self.accepted & EVENT_IDX != 0);
                queue.set_ready(value == 1);
            }
            0x080 => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            0x090 => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            0x0a0 => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    /// A driver sets one bit after the other, and never clears any but by a reset (2.1.1).
    fn set_status(&mut self, value: u32) -> Option<Change> {
        if value == 0 {
            return Some(self.reset());
        }
        let new = value & !self.status;
        if value & self.status != self.status {
            return None;
        }
        self.status |= new & (ACKNOWLEDGE | FAILED);
        if self.status & ACKNOWLEDGE != 0 {
            self.status |= new & DRIVER;
        }
        let is_agreeable = self.accepted & !self.offered == 0 && self.accepted & VERSION_1 != 0;
        if self.status & DRIVER != 0 && new & FEATURES_OK != 0 && is_agreeable {
            self.status |= FEATURES_OK;
        }
        if self.status & FEATURES_OK != 0 && new & DRIVER_OK != 0 {
            self.status |= DRIVER_OK;
            let queues = self.queues.iter().map(copy).collect();
            return Some(Change::Up { features: self.accepted, queues });
        }
        None
    }

    fn reset(&mut self) -> Change {
        self.queues.iter_mut().for_each(QueueT::reset);
        (self.accepted, self.status, self.queue) = (0, 0, 0);
        (self.offered_half, self.accepted_half) = (0, 0);
        Change::Down
    }
}

fn half(features: u64, number: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match number {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

/// A queue as the driver has set it up, for the device to work on.
fn copy(queue: &Queue) -> Queue {
    Queue::try_from(queue.state()).unwrap_or_default()
}
