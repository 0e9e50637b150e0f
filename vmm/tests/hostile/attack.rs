//! What the guest does wrong, class by class.

use vmm::board::x86_64::layout::{VIRTIO_SIZE, virtio};

use crate::guest::{Access, Guest, MEMORY, area};
use crate::random::Random;

// Devices by their places; at the one behind them nothing is.
pub(crate) const CONSOLE: u64 = 0;
pub(crate) const ENTROPY: u64 = 1;
pub(crate) const DISK: u64 = 2;
pub(crate) const BALLOON: u64 = 3;
pub(crate) const NETWORK: u64 = 4;
pub(crate) const VSOCK: u64 = 5;
pub(crate) const DEVICES: u64 = 6;
pub(crate) const QUEUES: u64 = 3;
pub(crate) const SIZE: u16 = 16;

// Registers (virtio 1.3, 4.2.2).
pub(crate) const DRIVER_FEATURES: u64 = 0x020;
pub(crate) const DRIVER_FEATURES_SELECT: u64 = 0x024;
pub(crate) const QUEUE_SELECT: u64 = 0x030;
pub(crate) const QUEUE_SIZE: u64 = 0x038;
pub(crate) const QUEUE_READY: u64 = 0x044;
pub(crate) const NOTIFY: u64 = 0x050;
const ACKNOWLEDGE: u64 = 0x064;
pub(crate) const STATUS: u64 = 0x070;
pub(crate) const RINGS: [u64; 3] = [0x080, 0x090, 0x0a0];
const CONFIG: u64 = 0x100;

// Descriptors' flags.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// One thing that a guest does wrong.
pub(crate) type Attack = fn(&mut Guest, &mut Random);

pub(crate) const CLASSES: [(&str, Attack); 11] = [
    ("registers of all kinds and widths", registers),
    ("configuration spaces", configuration),
    ("ports", ports),
    ("queues that lie wrong", crooked_queues),
    ("cyclic descriptors", |guest, random| chains(guest, random, cyclic)),
    ("overlapping descriptors", |guest, random| chains(guest, random, overlapping)),
    ("huge lengths", |guest, random| chains(guest, random, huge)),
    ("wrong tables of descriptors", |guest, random| chains(guest, random, indirect)),
    ("garbage in rings", garbage),
    ("requests that are almost right", |guest, random| chains(guest, random, plausible)),
    ("endless kicks and acknowledgements", kicks),
];

pub(crate) fn address(device: u64) -> u64 {
    virtio(device as usize).unwrap().address
}

fn device(random: &mut Random) -> u64 {
    random.below(DEVICES)
}

fn registers(guest: &mut Guest, random: &mut Random) {
    let at = address(random.below(DEVICES + 1)) + random.below(VIRTIO_SIZE);
    let width = random.one_of(&[1, 2, 4, 8]);
    if random.below(2) == 0 {
        guest.access(Access::Read(at, width));
    } else {
        let value = random.number().to_le_bytes();
        guest.access(Access::Write(at, value[..width].to_vec()));
    }
}

fn configuration(guest: &mut Guest, random: &mut Random) {
    let at = address(device(random)) + CONFIG + random.below(80);
    let width = random.one_of(&[1, 2, 3, 4, 8]);
    guest.access(Access::Read(at, width));
    guest.access(Access::Write(at, random.number().to_le_bytes()[..width].to_vec()));
}

/// All but those that end the machine.
fn ports(guest: &mut Guest, random: &mut Random) {
    let port = random.one_of(&[0x3f8, 0x3f9, 0x3fa, 0x3fc, 0x3ff, 0x601, 0x60, 0xcf8, 0xffff]);
    let width = random.one_of(&[1, 2, 4]);
    guest.access(Access::PortRead(port, width));
    guest.access(Access::PortWrite(port, random.number().to_le_bytes()[..width].to_vec()));
}

fn crooked_queues(guest: &mut Guest, random: &mut Random) {
    let device = device(random);
    let size = random.one_of(&[0, 3, 16, 256, 0x8000, 0xffff]);
    guest.set_up(device, size, |random, right| match random.below(5) {
        0 => right + 1,
        1 => MEMORY - 8,
        2 => random.number(),
        3 => u64::MAX - 15,
        _ => right,
    });
    guest.kick(device, random.below(QUEUES));
    guest.break_off(device);
}

/// Writes descriptors into the queues of a device that is set up, makes them available, and kicks.
fn chains(guest: &mut Guest, random: &mut Random, fill: fn(&mut Guest, &mut Random, u64)) {
    let device = device(random);
    if random.below(4) == 0 || !guest.is_up(device) {
        guest.set_up(device, SIZE, |_, right| right);
    }
    let queue = random.below(QUEUES);
    let place = area(device, queue);
    fill(guest, random, place);
    for _ in 0..=random.below(4) {
        guest.offer(device, queue, random.below(u64::from(SIZE)) as u16);
    }
    guest.kick(device, queue);
}

fn cyclic(guest: &mut Guest, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let next = random.below(u64::from(SIZE)) as u16;
        let flags = NEXT | random.one_of(&[0, WRITE]);
        guest.descriptor(place, number, (place + 0x3000, 64), flags, next);
    }
}

/// With each other, and with the rings themselves.
fn overlapping(guest: &mut Guest, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let more = if number + 1 < SIZE { NEXT } else { 0 };
        let write = if number < 2 { 0 } else { WRITE };
        guest.descriptor(place, number, (place + random.below(0x3000), 0x2000), more | write, number + 1);
    }
}

fn huge(guest: &mut Guest, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let more = if number + 1 < SIZE { NEXT } else { 0 };
        let write = if number < random.below(3) as u16 { 0 } else { WRITE };
        let length = random.one_of(&[u32::MAX, 1 << 31, MEMORY as u32 / 2, MEMORY as u32, 0]);
        let start = random.one_of(&[0, place, MEMORY / 2, MEMORY - 1, u64::MAX - 1, 0xd000_0000]);
        guest.descriptor(place, number, (start, length), more | write, number + 1);
    }
    // All that there is: the longest that is right.
    guest.descriptor(place, 0, (MEMORY / 4, MEMORY as u32 / 2), WRITE | NEXT, 1);
    guest.descriptor(place, 1, (MEMORY / 4, MEMORY as u32 / 2), WRITE, 0);
}

/// Tables inside tables, of no whole number of entries, empty, outside, and of themselves.
fn indirect(guest: &mut Guest, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let start = random.one_of(&[place, place + 0x3000, MEMORY - 8, random_page(number)]);
        let length = random.one_of(&[0, 1, 16, 17, 4096, u32::MAX]);
        guest.descriptor(place, number, (start, length), INDIRECT | random.one_of(&[0, NEXT, WRITE]), number);
        guest.descriptor(place + 0x3000, number, (place, 64), random.one_of(&[0, NEXT, INDIRECT]), number);
    }
}

fn random_page(number: u16) -> u64 {
    0x20_0000 + u64::from(number) * 0x1000
}

fn garbage(guest: &mut Guest, random: &mut Random) {
    let device = device(random);
    if !guest.is_up(device) {
        guest.set_up(device, SIZE, |_, right| right);
    }
    let queue = random.below(QUEUES);
    for _ in 0..64 {
        guest.write(area(device, queue) + random.below(0x3000), &random.number().to_le_bytes());
    }
    guest.kick(device, queue);
}

/// Headers as a disk, a card, a balloon and a vsock know them, with one of their fields wrong.
fn plausible(guest: &mut Guest, random: &mut Random, place: u64) {
    let buffer = place + 0x3000;
    for field in 0..8 {
        let value = random.one_of(&[0_u32, 1, 2, 3, 4, 11, 13, 64, 65536, u32::MAX]);
        guest.write(buffer + 4 * field, &value.to_le_bytes());
    }
    for head in (0..SIZE - 3).step_by(3) {
        let length = random.one_of(&[12, 16, 44, 60, 1514]);
        guest.descriptor(place, head, (buffer, length), NEXT, head + 1);
        guest.descriptor(place, head + 1, (buffer + 0x200, 512), NEXT | random.one_of(&[0, WRITE]), head + 2);
        guest.descriptor(place, head + 2, (buffer + 0xf00, 1), WRITE, 0);
    }
}

fn kicks(guest: &mut Guest, random: &mut Random) {
    let at = address(device(random));
    for _ in 0..50 {
        guest.access(Access::Write(at + NOTIFY, (random.below(4) as u32).to_le_bytes().to_vec()));
        guest.access(Access::Write(at + ACKNOWLEDGE, 3_u32.to_le_bytes().to_vec()));
    }
}
