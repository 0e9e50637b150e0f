//! A guest that does to its devices what no guest may, on a kernel that has loaded no driver for them.

// One instruction of four is executed where one block holds them.
#![allow(clippy::cast_possible_truncation, clippy::multiple_unsafe_ops_per_block)]

use std::arch::asm;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::ptr::NonNull;

use rig::hostile::{Access, DEVICE_SIZE, Driver, Layout, Machine, Progress};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::Outcome;
use crate::arguments::Arguments;

/// `rig.operations` of them at the devices from `rig.devices` on, of which there are `rig.count`. Memory ends at
/// `rig.end`; from `rig.own` to `rig.own-end` the kernel was told to leave it alone. Then each device is used rightly.
pub(super) fn attack(arguments: &Arguments) -> Outcome<()> {
    let layout = Layout {
        devices: arguments.number("devices")?,
        count: arguments.number("count")?,
        own: arguments.number("own")?..arguments.number("own-end")?,
        end: arguments.number("end")?,
        may_harm_itself: false,
    };
    let operations = arguments.number("operations")?;
    let mut driver = Driver::new(Bare::new(&layout)?, layout);
    let mut counts = BTreeMap::<_, u64>::new();
    println!("rig: attacks");
    while driver.machine.made < operations {
        *counts.entry(driver.attack()).or_default() += 1;
    }
    while driver.use_rightly() != Progress::Finished {
        std::thread::yield_now();
    }
    driver.machine.restore_serial_port();
    // Ends the line of what the attack has printed.
    println!();
    for (class, count) in counts {
        println!("rig: {count} {class}");
    }
    println!("rig: made={}", driver.machine.made);
    Ok(())
}

/// The machine as it is, without a kernel between.
struct Bare {
    devices: Window,
    own: Window,
    made: u64,
}

impl Bare {
    fn new(layout: &Layout) -> Outcome<Self> {
        // SAFETY: it lets this process at all ports, and changes nothing else.
        if unsafe { libc::iopl(3) } != 0 {
            return Err(format!("no way to the ports: {}", std::io::Error::last_os_error()).into());
        }
        // One place more than there are devices, and what an access at its end reaches of the next.
        let devices = Window::new(layout.devices, (layout.count + 2) * DEVICE_SIZE)?;
        Ok(Self { devices, own: Window::new(layout.own.start, layout.own.end - layout.own.start)?, made: 0 })
    }

    /// The kernel prints through it: 8 bits a byte, no loop, an interrupt for each byte sent (16550, "Line control" and on).
    fn restore_serial_port(&mut self) {
        for (port, value) in [(0x3fb, 0x03), (0x3fc, 0x0b), (0x3f9, 0x02)] {
            self.access(Access::PortWrite(port, vec![value]));
        }
    }
}

impl Machine for Bare {
    fn access(&mut self, access: Access) {
        self.made += 1;
        match access {
            Access::Read(at, width) => {
                self.devices.read(at, &mut vec![0; width]);
            }
            Access::Write(at, data) => self.devices.write(at, &data),
            Access::PortRead(port, width) => port_read(port, width),
            Access::PortWrite(port, data) => port_write(port, &data),
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.own.write(at, bytes);
    }

    fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.own.read(at, &mut bytes);
        bytes
    }
}

/// A part of the address space, without a cache of the kernel's.
struct Window {
    start: u64,
    mapped: NonNull<u8>,
    length: u64,
}

impl Window {
    fn new(start: u64, length: u64) -> Outcome<Self> {
        let memory = File::options().read(true).write(true).open("/dev/mem")?;
        let (protection, size) = (ProtFlags::READ | ProtFlags::WRITE, usize::try_from(length)?);
        // SAFETY: the kernel chooses a place where nothing is.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), size, protection, MapFlags::SHARED, &memory, start) };
        let mapped =
            mapped.map_err(|error| format!("cannot map {length:#x} bytes from {start:#x}: {error}"))?;
        Ok(Self { start, mapped: NonNull::new(mapped.cast()).ok_or("mapped at nowhere")?, length })
    }

    fn read(&self, at: u64, data: &mut [u8]) {
        for piece in pieces(data.len()) {
            let value = self.load(at + piece.start as u64, piece.len()).to_le_bytes();
            let length = piece.len();
            data[piece].copy_from_slice(&value[..length]);
        }
    }

    fn write(&self, at: u64, data: &[u8]) {
        for piece in pieces(data.len()) {
            let mut value = [0; 8];
            value[..piece.len()].copy_from_slice(&data[piece.clone()]);
            self.store(at + piece.start as u64, piece.len(), u64::from_le_bytes(value));
        }
    }

    fn place(&self, at: u64, width: usize) -> *mut u8 {
        let offset = at - self.start;
        assert!(offset + width as u64 <= self.length, "{at:#x} is not mapped");
        self.mapped.as_ptr().wrapping_add(offset as usize)
    }

    /// One instruction, which the host sees as one access.
    fn load(&self, at: u64, width: usize) -> u64 {
        let place = self.place(at, width);
        let value: u64;
        // SAFETY: all of it is mapped, and nobody refers to it; x86 takes any alignment.
        unsafe {
            match width {
                1 => asm!("movzx {0:e}, byte ptr [{1}]", out(reg) value, in(reg) place),
                2 => asm!("movzx {0:e}, word ptr [{1}]", out(reg) value, in(reg) place),
                4 => asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) place),
                _ => asm!("mov {0}, [{1}]", out(reg) value, in(reg) place),
            }
        }
        value
    }

    /// As [`Self::load`].
    fn store(&self, at: u64, width: usize, value: u64) {
        let place = self.place(at, width);
        // SAFETY: all of it is mapped, and nobody refers to it; x86 takes any alignment.
        unsafe {
            match width {
                1 => asm!("mov [{0}], {1}", in(reg) place, in(reg_byte) value as u8),
                2 => asm!("mov [{0}], {1:x}", in(reg) place, in(reg) value),
                4 => asm!("mov [{0}], {1:e}", in(reg) place, in(reg) value),
                _ => asm!("mov [{0}], {1}", in(reg) place, in(reg) value),
            }
        }
    }
}

/// So many bytes, in widths that the processor has.
fn pieces(length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let width = [8, 4, 2, 1].into_iter().find(|width| done + width <= length)?;
        done += width;
        Some(done - width..done)
    })
}

fn port_read(port: u16, width: usize) {
    // SAFETY: it reads a device's register, which has no part in this process's memory.
    unsafe {
        match width {
            1 => asm!("in al, dx", in("dx") port, out("al") _),
            2 => asm!("in ax, dx", in("dx") port, out("ax") _),
            _ => asm!("in eax, dx", in("dx") port, out("eax") _),
        }
    }
}

fn port_write(port: u16, data: &[u8]) {
    let mut value = [0; 4];
    value[..data.len()].copy_from_slice(data);
    let value = u32::from_le_bytes(value);
    // SAFETY: as `port_read`.
    unsafe {
        match data.len() {
            1 => asm!("out dx, al", in("dx") port, in("eax") value),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}
