//! Registers of a virtio device in memory (virtio 1.3, 4.2.2).
//!
//! Three parts, so that no vCPU waits for a device at work but to set it up, to reset it, or to read its configuration:
//! [`negotiation`] is what the driver writes then; [`slot`] holds device and queues for the thread that works; interrupt status and kicks are beside
//! both, without a lock.
//!
//! Lock order: negotiation, then slot.

mod negotiation;
mod slot;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use slot::Slot;

use self::negotiation::{Change, Negotiation};
use crate::bus::Registers;

// Registers beside those that only set the device up.
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
const STATUS: u64 = 0x070;
const CONFIG: u64 = 0x100;

/// One device, as the guest sees it.
pub(crate) struct Mmio {
    negotiation: Mutex<Negotiation>,
    slot: Arc<Slot>,
}

impl Mmio {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        let negotiation = slot.with_device(|device| Negotiation::new(device));
        Self { negotiation: Mutex::new(negotiation), slot }
    }

    fn write_register(&self, register: u64, value: u32) {
        match register {
            QUEUE_NOTIFY => self.slot.kick(),
            INTERRUPT_ACKNOWLEDGE => self.slot.acknowledge(value),
            _ => {
                let mut negotiation = self.negotiation.lock().unwrap_or_else(PoisonError::into_inner);
                match negotiation.write(register, value) {
                    Some(Change::Up { features, queues }) => self.slot.activate(features, queues),
                    Some(Change::Down) => self.slot.reset(),
                    None => {}
                }
            }
        }
    }

    fn read_register(&self, register: u64) -> u32 {
        match register {
            INTERRUPT_STATUS => self.slot.interrupt_status(),
            STATUS => {
                let status = self.negotiation.lock().unwrap_or_else(PoisonError::into_inner).read(register);
                status | self.slot.trouble()
            }
            _ => self.negotiation.lock().unwrap_or_else(PoisonError::into_inner).read(register),
        }
    }
}

impl Registers for Mmio {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            self.slot.with_device(|device| device.read_config(offset, data));
        } else if let (true, Ok(word)) = (offset.is_multiple_of(4), <&mut [u8; 4]>::try_from(data)) {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            self.slot.with_device(|device| device.write_config(offset, data));
        } else if let (true, Ok(word)) = (offset.is_multiple_of(4), <[u8; 4]>::try_from(data)) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

impl fmt::Debug for Mmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mmio")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use virtio_queue::Queue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::devices::testing::{AVAILABLE, DESCRIPTORS, Driver, MEMORY, USED};
    use crate::devices::vsock::Vsock;
    use crate::devices::{Device, Line, RingError, Signals};
    use crate::memory::Memory;

    /// Gives every chain back, and has a configuration of four bytes.
    struct Echo {
        written: [u8; 4],
    }

    impl Device for Echo {
        fn id(&self) -> u32 {
            42
        }

        fn features(&self) -> u64 {
            1 << 40 | 1
        }

        fn queue_sizes(&self) -> &'static [u16] {
            &[16, 8]
        }

        fn read_config(&self, offset: usize, data: &mut [u8]) {
            crate::devices::read_space(&self.written, offset, data);
        }

        fn write_config(&mut self, offset: usize, data: &[u8]) {
            for (to, from) in self.written.iter_mut().skip(offset).zip(data) {
                *to = *from;
            }
        }

        fn activate(&mut self, features: u64, _now: Instant) {
            self.written = [(features >> 40) as u8, features as u8, 0, 0];
        }

        fn reset(&mut self) {
            self.written = *b"idle";
        }

        fn process(
            &mut self,
            memory: &Memory,
            queues: &mut [Queue],
            _now: Instant,
        ) -> Result<Signals, RingError> {
            let mut signals = Signals::default();
            for (number, queue) in (0..).zip(queues) {
                let pass = crate::devices::chain::serve(queue, memory, |_| 0)?;
                signals.add(number, pass.signal);
                signals.go_on(pass.goes_on);
            }
            Ok(signals)
        }
    }

    struct Guest {
        registers: Mmio,
        slot: Arc<Slot>,
        driver: Driver,
        interrupts: Arc<AtomicU32>,
    }

    impl Guest {
        fn new() -> Self {
            let driver = Driver::new();
            let interrupts = Arc::new(AtomicU32::new(0));
            let raised = Arc::clone(&interrupts);
            let line = Line::new(move || {
                raised.fetch_add(1, Ordering::Relaxed);
            });
            let device = Box::new(Echo { written: *b"idle" });
            let slot = Arc::new(Slot::new("echo", device, driver.memory.clone(), line).unwrap());
            Self { registers: Mmio::new(Arc::clone(&slot)), slot, driver, interrupts }
        }

        fn read(&self, register: u64) -> u32 {
            let mut word = [0; 4];
            self.registers.read(register, &mut word);
            u32::from_le_bytes(word)
        }

        fn write(&self, register: u64, value: u32) {
            self.registers.write(register, &value.to_le_bytes());
        }

        /// As Linux does it (drivers/virtio/virtio_mmio.c), up to the status that is given.
        fn set_up(&self, available: u64) {
            self.write(STATUS, 0);
            for status in [1, 3] {
                self.write(STATUS, status);
            }
            // Version 1 is feature 32; of the second half the device's own is left out.
            self.write(0x024, 1);
            self.write(0x020, 1);
            self.write(0x024, 0);
            self.write(0x020, 1);
            self.write(STATUS, 11);
            assert_eq!(self.read(STATUS), 11, "the device agrees");
            self.write(0x030, 0);
            self.write(0x038, 16);
            for (register, address) in [(0x080, DESCRIPTORS), (0x090, available), (0x0a0, USED)] {
                self.write(register, address as u32);
                self.write(register + 4, (address >> 32) as u32);
            }
            self.write(0x044, 1);
            self.write(STATUS, 15);
        }
    }

    #[test]
    fn a_device_is_found_agreed_with_and_used() {
        let mut guest = Guest::new();
        let identity = [0x000, 0x004, 0x008].map(|register| guest.read(register));
        assert_eq!(identity, [0x7472_6976, 2, 42]);
        guest.write(0x014, 1);
        assert_eq!(guest.read(0x010), 1 << 8 | 1, "its own feature and version 1");
        guest.write(0x030, 1);
        assert_eq!(guest.read(0x034), 8, "the second queue's size");
        guest.write(0x030, 2);
        assert_eq!(guest.read(0x034), 0, "there is no third");
        guest.set_up(AVAILABLE);
        assert_eq!((guest.read(STATUS), guest.read(0x100)), (15, 1 << 8), "what was agreed on");

        guest.driver.offer(0);
        guest.write(QUEUE_NOTIFY, 0);
        guest.slot.process(Instant::now());
        assert_eq!(guest.driver.used().0, 1);
        assert_eq!((guest.interrupts.load(Ordering::Relaxed), guest.read(INTERRUPT_STATUS)), (1, 1));
        guest.write(INTERRUPT_ACKNOWLEDGE, 1);
        assert_eq!(guest.read(INTERRUPT_STATUS), 0);

        guest.write(STATUS, 0);
        assert_eq!((guest.read(STATUS), guest.read(0x100)), (0, u32::from_le_bytes(*b"idle")));
        guest.slot.process(Instant::now());
        assert_eq!(guest.driver.used().0, 1, "nothing without a driver");
    }

    #[test]
    fn a_ring_outside_memory_or_a_broken_one_needs_a_reset_and_gets_it() {
        // Cloud Hypervisor #8295: a device that could not be started said nothing.
        let mut guest = Guest::new();
        guest.set_up(MEMORY - 8);
        assert_eq!(guest.read(STATUS), 15 | 64, "it is found at the start");
        assert_eq!((guest.interrupts.load(Ordering::Relaxed), guest.read(INTERRUPT_STATUS)), (1, 2));
        guest.set_up(AVAILABLE);
        assert_eq!(guest.read(STATUS), 15, "a reset helps");
        guest.driver.offer(500);
        guest.slot.process(Instant::now());
        assert_eq!(guest.read(STATUS), 15 | 64);
        guest.slot.process(Instant::now());
        guest.set_up(AVAILABLE);
        assert_eq!(guest.read(STATUS), 15);
    }

    /// Until the driver resets it, and then no more.
    #[test]
    fn a_broken_vsock_device_refuses_who_wants_to_reach_the_guest() {
        let memory = Driver::new().memory;
        let (device, handle) = Vsock::new(3, |_| ()).unwrap();
        let slot = Slot::new("vsock", Box::new(device), memory.clone(), Line::new(|| ())).unwrap();
        let up = || slot.activate(0, (0..3).map(|_| Driver::new().queue).collect());
        let connect = || {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            handle.connect(1000, Vec::new(), theirs.into());
            slot.process(Instant::now());
            ours.read(&mut [0]).map_err(|error| error.kind())
        };
        up();
        assert_eq!(connect(), Err(ErrorKind::WouldBlock), "it waits for the guest");
        memory.write_obj(1000_u16, GuestAddress(AVAILABLE + 2)).unwrap();
        slot.process(Instant::now());
        assert_eq!(connect(), Ok(0), "it is closed at once");
        slot.reset();
        memory.write_obj(0_u16, GuestAddress(AVAILABLE + 2)).unwrap();
        up();
        assert_eq!(connect(), Err(ErrorKind::WouldBlock), "it waits again");
    }

    #[test]
    fn steps_out_of_order_and_features_that_were_not_offered_are_not_taken() {
        let guest = Guest::new();
        guest.write(STATUS, 2);
        assert_eq!(guest.read(STATUS), 0, "a driver before it has seen the device");
        guest.write(STATUS, 1);
        guest.write(STATUS, 5);
        assert_eq!(guest.read(STATUS), 1, "ready before it has agreed");
        guest.write(STATUS, 3);
        guest.write(0x020, 2);
        guest.write(STATUS, 11);
        assert_eq!(guest.read(STATUS), 3, "a feature that was not offered, and no version 1");
        guest.write(0x044, 1);
        assert_eq!(guest.read(0x044), 0, "a queue before the agreement");
        // Firecracker #5818: bits that the driver clears.
        guest.write(STATUS, 1);
        assert_eq!(guest.read(STATUS), 3);
    }

    #[test]
    fn a_device_whose_rings_lie_over_each_other_can_be_reset() {
        let guest = Guest::new();
        guest.set_up(USED - 2);
        for _ in 0..3 {
            guest.slot.process(Instant::now());
            assert!(is_readable(guest.slot.descriptors().0), "it comes back by itself");
        }
        guest.write(STATUS, 0);
        guest.slot.process(Instant::now());
        assert!(!is_readable(guest.slot.descriptors().0), "it rests");
    }

    fn is_readable(descriptor: std::os::fd::RawFd) -> bool {
        let mut polled = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure, and no waiting.
        unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
    }

    /// Works until it is told to stop.
    struct Busy(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);

    impl Device for Busy {
        fn id(&self) -> u32 {
            43
        }

        fn queue_sizes(&self) -> &'static [u16] {
            &[16]
        }

        fn process(
            &mut self,
            _memory: &Memory,
            _queues: &mut [Queue],
            _now: Instant,
        ) -> Result<Signals, RingError> {
            self.0.send(()).unwrap();
            self.1.recv().unwrap();
            Ok(Signals::default())
        }
    }

    #[test]
    fn kicks_and_interrupts_wait_for_no_device_at_work() {
        // Firecracker #5260, and what Cloud Hypervisor warns of beside its `signal_vcpus`: a vCPU that waits for a lock.
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel();
        let memory = crate::memory::of_size(MEMORY);
        let device = Box::new(Busy(begun, ended));
        let slot = Arc::new(Slot::new("busy", device, memory, Line::new(|| ())).unwrap());
        let registers = Mmio::new(Arc::clone(&slot));
        let working = std::thread::spawn(move || slot.process(Instant::now()));
        has_begun.recv().unwrap();
        let mut word = [0; 4];
        for register in [QUEUE_NOTIFY, INTERRUPT_ACKNOWLEDGE] {
            registers.write(register, &word);
        }
        for register in [INTERRUPT_STATUS, STATUS, 0x000] {
            registers.read(register, &mut word);
        }
        assert!(!working.is_finished());
        end.send(()).unwrap();
        working.join().unwrap();
    }

    #[test]
    fn accesses_of_any_length_and_place_do_no_harm() {
        // Cloud Hypervisor #8506, #8507, #8237: short and crooked ones panicked.
        let guest = Guest::new();
        for offset in 0..0x210 {
            for length in [0, 1, 2, 3, 4, 8, 16] {
                guest.registers.write(offset, &vec![0xff; length]);
                let mut data = vec![0xaa; length];
                guest.registers.read(offset, &mut data);
            }
        }
        guest.registers.write(u64::MAX, &[0; 4]);
        guest.set_up(AVAILABLE);
        assert_eq!(guest.read(STATUS), 15);
    }
}
