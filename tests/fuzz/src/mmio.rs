//! The registers of a virtio device in memory (virtio 1.3, 4.2.2), with a real device behind them: any accesses of any width,
//! any steps in any order.
//!
//! Input: which device, then steps:
//!
//! 0. a read: where, how many bytes
//! 1. a write: where, how many bytes, then they
//! 2. the driver sets the device up as it should: features (low half), size of its queues
//! 3. memory is written: where, how many bytes, then they
//! 4. a chain is offered in a queue: its head, then a descriptor (where, how long, flags)
//! 5. the device works
//!
//! Rings stand where step 2 puts them: queue n at 0x1000 (n + 1).

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use vm_memory::{Bytes, GuestAddress};
use vmm::devices::balloon::Balloon;
use vmm::devices::blk::{Blk, Disk};
use vmm::devices::console::Console;
use vmm::devices::net::Net;
use vmm::devices::rng::Rng;
use vmm::devices::vsock::{Handle, Vsock};
use vmm::devices::{Device, Line};
use vmm::fuzzing::Mmio;
use vmm::memory::Memory;

use crate::input::Input;
use crate::memory;

const MEMORY: u64 = 0x2_0000;

const STATUS: u64 = 0x070;
const INTERRUPT_STATUS: u64 = 0x060;
const NEEDS_RESET: u32 = 64;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut board = Board::new(input.byte());
    for _ in 0..128 {
        if input.is_empty() {
            break;
        }
        match input.below(6) {
            0 => {
                let (offset, width) = (input.number(), usize::from(input.byte() % 17));
                let mut data = vec![0xaa; width];
                board.registers.read(offset, &mut data);
            }
            1 => {
                let (offset, width) = (input.number(), usize::from(input.byte() % 17));
                let data = input.bytes(width).to_vec();
                board.write(offset, &data);
            }
            2 => {
                let (features, size) = (input.word(), input.number() as u16);
                board.set_up(features, size);
            }
            3 => {
                let (at, length) = (input.short(), usize::from(input.byte()));
                let _ = board.memory.write_slice(input.bytes(length), GuestAddress(at.into()));
            }
            4 => board.offer(&mut input),
            _ => board.registers.process(Instant::now()),
        }
        board.check();
    }
    // Whatever it went through, a reset makes it a new one.
    board.register(STATUS, 0);
    assert_eq!([board.word(STATUS), board.word(INTERRUPT_STATUS)], [0, 0]);
    board.set_up(0, 16);
    board.registers.process(Instant::now());
    assert_eq!(board.word(STATUS) & !NEEDS_RESET, 15);
}

struct Board {
    registers: Mmio,
    memory: Memory,
    raised: Arc<AtomicU32>,
    id: u32,
    /// Status bits that the driver has written since the last reset.
    written: u32,
    offered: [u16; 4],
    /// What lives as long as the device: the other ends of its sockets.
    _host: (Option<UnixStream>, Option<Handle>),
}

impl Board {
    fn new(which: u8) -> Self {
        let memory = memory::of(std::slice::from_ref(&(0..MEMORY)));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut host = (None, None);
        let device: Box<dyn Device> = match which % 6 {
            0 => Box::new(Rng),
            1 => Box::new(Balloon::new(1 << 20)),
            2 => {
                let file = tempfile::NamedTempFile::new().unwrap();
                file.as_file().set_len(0x8000).unwrap();
                Box::new(Blk::new(Disk::open(file.path(), false).unwrap(), |_| {}))
            }
            3 => {
                host.0 = Some(ours);
                Box::new(Console::new(theirs.into()).unwrap())
            }
            4 => {
                host.0 = Some(ours);
                Box::new(Net::new(theirs.into()).unwrap())
            }
            _ => {
                let (device, handle) = Vsock::new(3, |_| {}).unwrap();
                handle.connect(7, b"hello".to_vec(), theirs.into());
                host = (Some(ours), Some(handle));
                Box::new(device)
            }
        };
        let id = device.id();
        let raised = Arc::new(AtomicU32::new(0));
        let line = {
            let raised = Arc::clone(&raised);
            Line::new(move || {
                raised.fetch_add(1, Ordering::Relaxed);
            })
        };
        let registers = Mmio::new(device, memory.clone(), line).unwrap();
        Self { registers, memory, raised, id, written: 0, offered: [0; 4], _host: host }
    }

    fn word(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.registers.read(register, &mut word);
        u32::from_le_bytes(word)
    }

    fn register(&mut self, register: u64, value: u32) {
        self.write(register, &value.to_le_bytes());
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let before = self.word(STATUS);
        self.registers.write(offset, data);
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else {
            if offset < 0x100 {
                assert_eq!(self.word(STATUS), before, "a crooked access to registers does something");
            }
            return;
        };
        if offset == STATUS && value == 0 {
            self.written = 0;
            self.offered = [0; 4];
            assert_eq!([self.word(STATUS), self.word(INTERRUPT_STATUS)], [0, 0], "after a reset");
        } else if offset == STATUS {
            self.written |= value;
            let gone = before & !self.word(STATUS);
            assert_eq!(gone, 0, "bits of the status are gone without a reset");
        }
    }

    /// As virtio 1.3, 3.1.1 says.
    fn set_up(&mut self, features: u32, size: u16) {
        for status in [0, 1, 3] {
            self.register(STATUS, status);
        }
        self.register(0x014, 0);
        let offered = self.word(0x010);
        for (select, half) in [(0, features & offered), (1, 1)] {
            self.register(0x024, select);
            self.register(0x020, half);
        }
        self.register(STATUS, 11);
        assert_eq!(self.word(STATUS), 11, "the device does not agree to what it has offered");
        for queue in 0..3 {
            self.register(0x030, queue);
            self.register(0x038, size.into());
            let base = 0x1000 * (queue + 1);
            for (register, offset) in [(0x080, 0), (0x090, 0x600), (0x0a0, 0xa00)] {
                self.register(register, base + offset);
                self.register(register + 4, 0);
            }
            self.register(0x044, 1);
            memory::write(&self.memory, u64::from(base) + 0x600, &[0; 4]);
        }
        self.register(STATUS, 15);
    }

    fn offer(&mut self, input: &mut Input<'_>) {
        let (queue, head) = (usize::from(input.below(3)), input.below(16));
        let base = 0x1000 * (queue as u64 + 1);
        let (at, length) = (input.number(), input.number() as u32);
        let (flags, next) = (input.short(), u16::from(input.byte()));
        let descriptor =
            [&at.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
                .concat();
        memory::write(&self.memory, base + 16 * u64::from(head), &descriptor);
        let offered = &mut self.offered[queue];
        // Rings of step 2 have 16 entries, or as many as the input says.
        let slot = u64::from(*offered % 16);
        *offered = offered.wrapping_add(1);
        memory::write(&self.memory, base + 0x604 + 2 * slot, &u16::from(head).to_le_bytes());
        memory::write(&self.memory, base + 0x602, &offered.to_le_bytes());
        self.register(0x050, queue as u32);
    }

    /// What holds at every time.
    fn check(&self) {
        let identity = [0x000, 0x004, 0x008].map(|register| self.word(register));
        assert_eq!(identity, [u32::from_le_bytes(*b"virt"), 2, self.id]);
        let status = self.word(STATUS);
        assert_eq!(status & !(self.written | NEEDS_RESET), 0, "a status that the driver has not written");
        assert!(status & 4 == 0 || status & 8 != 0, "the driver is up and has not agreed");
        assert!(status & 2 == 0 || status & 1 != 0, "a driver that does not know its device");
        let interrupts = self.word(INTERRUPT_STATUS);
        assert_eq!(interrupts & !3, 0);
        assert!(interrupts == 0 || self.raised.load(Ordering::Relaxed) > 0, "an interrupt was not raised");
    }
}
